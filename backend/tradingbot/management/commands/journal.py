"""``manage.py journal verify|anchor``: proves every chain, alone or against the anchors; or writes an anchor now.

Exit code 1 when anything does not hold; the last line names each chain with the entry from which on it is not proved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backend.tradingbot.core.clock import SYSTEM_CLOCK
from backend.tradingbot.management.speaking import refusals
from backend.tradingbot.services.anchors import anchor_file, anchor_journal
from backend.tradingbot.services.journal_proof import ANCHORS, Proof, prove

ITS_FILE = "the anchor file"


class Command(BaseCommand):
    help = "Prove the journal's hash chains, or write an anchor of their heads."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="verify|anchor")
        verify = acts.add_parser("verify", help="walk every chain; exit code 1 when one does not hold")
        verify.add_argument(
            "--anchors",
            nargs="?",
            const=ITS_FILE,
            metavar="FILE",
            help="hold the chains against ANCHOR_FILE as well, or against a copy of it that was kept elsewhere",
        )
        verify.add_argument("--scope", help="one chain only: firm, or account:<code>")
        acts.add_parser("anchor", help="write the heads of all chains to the log and to ANCHOR_FILE now")

    def handle(self, *args: Any, **options: Any) -> None:
        with refusals():
            getattr(self, options["act"])(options)

    def anchor(self, options: dict[str, Any]) -> None:
        try:
            anchor = anchor_journal(clock=SYSTEM_CLOCK)
        except OSError as error:
            raise CommandError(f"{anchor_file().path} cannot be written: {error.strerror}. See ANCHOR_FILE.") from error
        self.stdout.write(f"anchor {anchor.number} of {len(anchor.heads)} chains, {anchor.hash}")

    def verify(self, options: dict[str, Any]) -> None:
        named = options["anchors"]
        copy = Path(named) if named and named != ITS_FILE else None
        if copy is not None and not copy.is_file():
            raise CommandError(f"there is no file {copy}")
        proof = prove(clock=SYSTEM_CLOCK, scope=options["scope"], anchors=bool(named), path=copy)
        self._tell(proof)
        if proof.broken:
            places = [
                scope if scope == ANCHORS else f"{scope} from entry {proof.chains[scope].broken_at} on"
                for scope in proof.broken
            ]
            raise CommandError("broken: " + ", ".join(places))

    def _tell(self, proof: Proof) -> None:
        for scope, report in proof.chains.items():
            seen = "" if proof.anchors is None else f", {len(proof.anchors.of(scope))} of them anchored"
            problem = "" if report.intact else f"; {report.problem}"
            self.stdout.write(f"{scope}: {report.entries} entries hold{seen if report.intact else ''}{problem}")
        if proof.anchors is not None:
            last = proof.anchors.last
            newest = f", the last of {last.at}" if last else ""
            torn = f"; {proof.anchors.torn} lines are torn and say nothing" if proof.anchors.torn else ""
            self.stdout.write(f"{ANCHORS}: {proof.anchors.count} in the file{newest}{torn}")
            for problem in proof.anchors.problems:
                self.stdout.write(f"{ANCHORS}: {problem}")
