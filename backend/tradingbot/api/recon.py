"""The end of the day over REST: statements up, runs, breaks and their workflow, blocks, affirmations."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.views import APIView

from backend.tradingbot.api.authentication import caller
from backend.tradingbot.api.parsing import ExactJSONParser
from backend.tradingbot.api.schema import DATE, MOMENT, REASON, TEXT, body
from backend.tradingbot.core.clock import SYSTEM_CLOCK, rfc3339
from backend.tradingbot.core.errors import FieldError, FieldErrors, InvalidInputError, NotFoundError
from backend.tradingbot.core.parsing import parse_time
from backend.tradingbot.core.values import plain
from backend.tradingbot.models import (
    Account,
    Affirmation,
    Break,
    CsvMappingVersion,
    ReconciliationBlock,
    ReconPolicy,
    ReconRun,
    Statement,
)
from backend.tradingbot.ops.statements import StatementError
from backend.tradingbot.selectors.recon_report import age_of, as_dict, report_of
from backend.tradingbot.selectors.statements import standing_of
from backend.tradingbot.services import affirmations, break_workflow, recon_blocks, recon_policies, statements
from backend.tradingbot.services.recon_by_hand import run_by_hand
from backend.tradingbot.services.recon_page import report_page

ACCOUNT = OpenApiParameter("account", str, description="The account's code.")
RUN = body("account session", account=TEXT, session=DATE, interim={"type": "boolean", "default": False},
           statement={"type": "integer", "description": "a stored one that counts again"},
           reason=REASON)  # fmt: skip
STEP = body(
    "",
    reason=REASON,
    owner=TEXT,
    text=TEXT,
    resolution={"type": "string", "enum": ["explained", "force_matched", "written_off", "closed"]},
    **{"with": {"type": "integer"}},
)
BLOCK = body("account session reason", account=TEXT, session=DATE, reason=REASON)
BLOCK_STEP = body("reason", reason=REASON, until=MOMENT)
SIGN = body("sha256", sha256={"type": "string", "pattern": "^[0-9a-f]{64}$"})
PAGE = 500
FORM_OVERHEAD = 1_024


def _body(request: Request) -> dict[str, Any]:
    if not isinstance(request.data, dict):
        raise InvalidInputError([FieldError("body", "", "must be a JSON object", "see /api/docs/")])
    return dict(request.data.items())


def _account(request: Request, code: Any) -> Account:
    found = Account.objects.filter(code=code).first() if isinstance(code, str) and "\x00" not in code else None
    if found is None:
        raise NotFoundError(f"there is no account {code!r}", code="account_not_found", remedy="check the code")
    caller(request).need_account(found.code)
    return found


def _session(raw: Any) -> date:
    try:
        return date.fromisoformat(raw)
    except (TypeError, ValueError):
        problem, remedy = "is not a date", "year-month-day"
        raise InvalidInputError([FieldError("session", raw, problem, remedy)]) from None


def shown_run(run: ReconRun) -> dict[str, Any]:
    return {
        "id": run.pk, "account": run.account.code, "session": str(run.session), "state": run.state,
        "attempts": run.attempts, "started_at": rfc3339(run.started_at), "completed_at": rfc3339(run.completed_at),
        "started_by": run.started_by, "failure": run.failure or None, "cut": rfc3339(run.cut), "counts": run.counts,
        "proofs": run.proofs, "pnl": run.pnl, "tolerances": run.tolerances, "severities": run.severities,
        "result_digest": run.result_digest or None, "build_id": run.build_id,
        "build_stamp": run.build_stamp or None,
    }  # fmt: skip


def shown_break(row: Break) -> dict[str, Any]:
    return {
        "id": row.pk, "account": row.account.code, "kind": row.kind, "severity": row.severity,
        "symbol": row.symbol or None,
        "subject": row.subject, "session": str(row.session) if row.session else None,
        "age_business_days": age_of(row, SYSTEM_CLOCK.now().date()), "value": plain(row.value), "ours": row.ours,
        "theirs": row.theirs, "difference": row.difference, "suggested_explanation": row.suggested_explanation,
        "status": row.status, "owner": row.owner or None, "opened_at": rfc3339(row.opened_at),
        "opened_by": row.opened_by, "resolved_by": row.resolved_by or None, "resolution": row.resolution or None,
        "closed_by": row.closed_by or None, "booked_at": rfc3339(row.booked_at), "notes": row.notes,
    }  # fmt: skip


def shown_block(row: ReconciliationBlock) -> dict[str, Any]:
    return {
        "id": row.pk, "account": row.account.code, "session": str(row.session) if row.session else None,
        "reason": row.reason, "placed_by": row.placed_by, "placed_at": rfc3339(row.placed_at),
        "waived_until": rfc3339(row.waived_until), "waived_by": row.waived_by or None,
        "waiver_reason": row.waiver_reason or None, "lifted_at": rfc3339(row.lifted_at),
        "lifted_by": row.lifted_by or None, "lift_reason": row.lift_reason or None,
    }  # fmt: skip


class Runs(APIView):
    @extend_schema(responses={200: dict}, summary="Reconciliation runs, the newest first", parameters=[ACCOUNT])
    def get(self, request: Request) -> JsonResponse:
        rows = ReconRun.objects.select_related("account")
        rows = _of_account(request, rows)
        return JsonResponse({"runs": [shown_run(run) for run in rows[:PAGE]]})

    @extend_schema(request=RUN, responses={200: dict}, summary="Reconcile an account's session now")
    def post(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk", "admin")
        body = _body(request)
        _known(body, {"account", "session", "interim", "reason", "statement"})
        account = _account(request, body.get("account"))
        run = run_by_hand(
            account, _session(body.get("session")), actor=caller(request).name, clock=SYSTEM_CLOCK,
            reason=body.get("reason", "asked over the API"), interim=body.get("interim") is True,
            statement=body.get("statement"),
        )  # fmt: skip
        return JsonResponse(shown_run(run))


class OneRun(APIView):
    @extend_schema(responses={200: dict}, summary="One run with its breaks, proofs and statements")
    def get(self, request: Request, run: int) -> JsonResponse:
        found = ReconRun.objects.select_related("account").filter(pk=run).first()
        if found is None:
            raise NotFoundError(f"there is no run {run}", code="run_not_found", remedy="see GET recon/runs")
        caller(request).need_account(found.account.code)
        report = report_of(found)
        told = {"breaks": [shown_break(row) for row, _ in report.breaks], "report": as_dict(report)}
        told["statements"] = [statements.shown(each) for each in report.statements]
        return JsonResponse(shown_run(found) | told)


class Breaks(APIView):
    @extend_schema(
        responses={200: dict}, summary="Breaks, those that stand first",
        parameters=[ACCOUNT, OpenApiParameter("status", str, description="open, assigned, ... or all")],
    )  # fmt: skip
    def get(self, request: Request) -> JsonResponse:
        rows = _of_account(request, Break.objects.select_related("account").order_by("-id"))
        status = request.query_params.get("status", "")
        if status and status != "all":
            rows = rows.filter(status=status)
        elif not status:
            rows = rows.exclude(status="closed")
        return JsonResponse({"breaks": [shown_break(row) for row in rows[:PAGE]]})


class BreakStep(APIView):
    """One step of the workflow; a class for each, so that the schema names them."""

    @extend_schema(
        request=STEP, responses={200: dict},
        summary="assign {owner, reason}; note {text}; explain, write-off {reason}; "
        "resolve {resolution, reason, with?}; close, send-back, reopen {reason}",
    )  # fmt: skip
    def post(self, request: Request, number: int, step: str) -> JsonResponse:
        caller(request).need_role("risk")
        body, name = _body(request), caller(request).name
        reason, clock = body.get("reason"), SYSTEM_CLOCK
        if step == "assign":
            _known(body, {"owner", "reason"})
            row = break_workflow.assign(number, owner=body.get("owner"), actor=name, reason=reason, clock=clock)
        elif step == "note":
            _known(body, {"text"})
            row = break_workflow.note(number, text=body.get("text"), actor=name, clock=clock)
        elif step in ("resolve", "explain", "write-off"):
            row = self._resolve(number, step, body, name)
        else:
            _known(body, {"reason"})
            act = {
                "close": break_workflow.close,
                "send-back": break_workflow.send_back,
                "reopen": break_workflow.reopen,
            }
            row = act[step](number, actor=name, reason=reason, clock=clock)
        return JsonResponse(shown_break(row))

    def _resolve(self, number: int, step: str, body: dict[str, Any], name: str) -> Break:
        _known(body, {"resolution", "reason", "with"} if step == "resolve" else {"reason"})
        said = {"explain": "explained", "write-off": "written_off"}.get(step) or body.get("resolution")
        if said == "closed":
            return break_workflow.close(number, actor=name, reason=body.get("reason"), clock=SYSTEM_CLOCK)
        return break_workflow.resolve(
            number, resolution=said, actor=name, reason=body.get("reason"), clock=SYSTEM_CLOCK,
            with_break=body.get("with"),
        )  # fmt: skip


class Statements(APIView):
    parser_classes = [MultiPartParser, ExactJSONParser]

    @extend_schema(responses={200: dict}, summary="Statements, the newest first", parameters=[ACCOUNT])
    def get(self, request: Request) -> JsonResponse:
        rows = _of_account(request, Statement.objects.select_related("account"))
        return JsonResponse({"statements": [statements.shown(row) for row in rows[:PAGE]]})

    @extend_schema(
        request={"multipart/form-data": {"type": "object", "properties": {
            "account": {"type": "string"}, "session": {"type": "string", "format": "date"},
            "source": {"type": "string", "enum": ["alpaca_json", "flex_xml", "csv"]}, "mapping": {"type": "string"},
            "file": {"type": "string", "format": "binary"}}}},
        responses={200: dict, 201: dict}, summary="Upload a statement; the original is kept. "
        "The same bytes again add nothing: the answer says which statement it is, whether it counts, and its run",
    )  # fmt: skip
    def post(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk", "admin")
        _check_length(request)
        body = _body(request)
        file = request.FILES.get("file")
        if file is None:
            raise InvalidInputError([FieldError("file", "", "is missing", "send multipart/form-data with a file")])
        account = _account(request, body.get("account"))
        found, fresh = statements.receive_statement(
            account, _session(body.get("session")), name=file.name or "statement", stream=file.file,
            source=str(body.get("source")), actor=caller(request).name, clock=SYSTEM_CLOCK,
            mapping=str(body.get("mapping") or ""),
        )  # fmt: skip
        told = statements.shown(found) | {"known": not fresh} | standing_of(found)
        return JsonResponse(told, status=201 if fresh else 200)


class OriginalStatement(APIView):
    @extend_schema(responses={200: bytes}, summary="The statement byte for byte, as it came")
    def get(self, request: Request, number: int) -> HttpResponse:
        found = Statement.objects.select_related("account").filter(pk=number).first()
        if found is None:
            raise NotFoundError(f"there is no statement {number}", code="statement_not_found",
                                remedy="see GET recon/statements")  # fmt: skip
        caller(request).need_account(found.account.code)
        answer = HttpResponse(statements.original_of(found), content_type="application/octet-stream")
        answer["Content-Disposition"] = f'attachment; filename="statement-{found.pk}-{found.sha256[:12]}.bin"'
        return answer


class Mappings(APIView):
    @extend_schema(responses={200: dict}, summary="Every version of every CSV mapping")
    def get(self, request: Request) -> JsonResponse:
        rows = CsvMappingVersion.objects.all()[:PAGE]
        told = [{"name": row.name, "version": row.version, "body": row.body} | _record(row) for row in rows]
        return JsonResponse({"mappings": told})

    @extend_schema(request=dict, responses={201: dict}, summary="Save the next version of a CSV mapping")
    def post(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk", "admin")
        body = _body(request)
        reason = body.pop("reason", None)
        row = recon_policies.save_mapping(body, actor=caller(request).name, reason=reason, clock=SYSTEM_CLOCK)
        return JsonResponse({"name": row.name, "version": row.version, "body": row.body}, status=201)


class Policies(APIView):
    @extend_schema(responses={200: dict}, summary="Every version of tolerances, severities, fees and signers")
    def get(self, request: Request) -> JsonResponse:
        rows = _of_account(request, ReconPolicy.objects.select_related("account"))
        return JsonResponse({"policies": [_shown_policy(row) | _record(row) for row in rows[:PAGE]]})

    @extend_schema(request=dict, responses={201: dict}, summary="Set tolerances, severities, fees and signers")
    def post(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk")
        body = _body(request)
        reason, code = body.pop("reason", None), body.pop("account", None)
        account = None if code is None else _account(request, code)
        row = recon_policies.set_policy(account, body, actor=caller(request).name, reason=reason, clock=SYSTEM_CLOCK)
        return JsonResponse(_shown_policy(row), status=201)


def _shown_policy(row: ReconPolicy) -> dict[str, Any]:
    names = ("version", "tolerances", "warnings", "fees", "second_signer", "upload_only")
    return {name: getattr(row, name) for name in names} | {"account": row.account.code if row.account else None}


def _record(row: CsvMappingVersion | ReconPolicy) -> dict[str, Any]:
    return {"reason": row.reason, "created_by": row.created_by, "created_at": rfc3339(row.created_at)}


class Blocks(APIView):
    @extend_schema(responses={200: dict}, summary="What blocks sessions, the newest first", parameters=[ACCOUNT])
    def get(self, request: Request) -> JsonResponse:
        rows = _of_account(request, ReconciliationBlock.objects.select_related("account").order_by("-id"))
        return JsonResponse({"blocks": [shown_block(row) for row in rows[:PAGE]]})

    @extend_schema(request=BLOCK, responses={201: dict}, summary="Disable an account's next day after a session")
    def post(self, request: Request) -> JsonResponse:
        caller(request).need_role("risk")
        body = _body(request)
        _known(body, {"account", "session", "reason"})
        reason = recon_blocks.checked_reason(body.get("reason"))
        account = _account(request, body.get("account"))
        session = _session(body.get("session"))
        row = recon_blocks.disable_next_day(account, session, reason, actor=caller(request).name, clock=SYSTEM_CLOCK)
        return JsonResponse(shown_block(row), status=201)


class BlockStep(APIView):
    @extend_schema(request=BLOCK_STEP, responses={200: dict}, summary="waive {until, reason} or lift {reason}")
    def post(self, request: Request, number: int, step: str) -> JsonResponse:
        caller(request).need_role("risk")
        body, name = _body(request), caller(request).name
        if step == "lift":
            row = recon_blocks.lift_block(number, actor=name, reason=body.get("reason"), clock=SYSTEM_CLOCK)
        else:
            errors = FieldErrors()
            until = parse_time(body.get("until"), "until", errors)
            if until is None:
                raise InvalidInputError(errors.errors)
            row = recon_blocks.waive_block(
                number, until=until, actor=name, reason=body.get("reason"), clock=SYSTEM_CLOCK
            )
        return JsonResponse(shown_block(row))


class Affirmations(APIView):
    @extend_schema(responses={200: dict}, summary="Days to sign, the newest first", parameters=[ACCOUNT])
    def get(self, request: Request) -> JsonResponse:
        rows = _of_account(request, Affirmation.objects.select_related("account").filter(replaced_at=None))
        return JsonResponse({"affirmations": [affirmations.shown(row) for row in rows[:PAGE]]})


class SignAffirmation(APIView):
    @extend_schema(request=SIGN, responses={200: dict}, summary="Sign the figures whose {sha256} you name")
    def post(self, request: Request, number: int) -> JsonResponse:
        caller(request).need_role("risk", "admin")
        sha256 = str(_body(request).get("sha256"))
        row = affirmations.sign(number, sha256=sha256, actor=caller(request).name, clock=SYSTEM_CLOCK)
        return JsonResponse(affirmations.shown(row))


class RunReport(APIView):
    @extend_schema(responses={200: str}, summary="The day's report as one HTML page to keep")
    def get(self, request: Request, run: int) -> HttpResponse:
        found = ReconRun.objects.select_related("account").filter(pk=run).first()
        if found is None:
            raise NotFoundError(f"there is no run {run}", code="run_not_found", remedy="see GET recon/runs")
        caller(request).need_account(found.account.code)
        answer = HttpResponse(report_page(found, now=SYSTEM_CLOCK.now()), content_type="text/html; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="recon-{found.account.code}-{found.session}.html"'
        return answer


def _check_length(request: Request) -> None:
    """Before anything is read: what is longer than the limit is not even taken in."""
    limit, told = settings.TRADINGBOT.statement_max_bytes, request.META.get("CONTENT_LENGTH") or "0"
    if not told.isdigit() or int(told) > limit + FORM_OVERHEAD:
        raise StatementError("statement_too_large", f"is larger than {limit} bytes", "split it by account or day")


def _of_account(request: Request, rows: Any) -> Any:
    """Those of the account that was asked for; a trader's key sees its own alone."""
    code = request.query_params.get("account", "")
    own = caller(request).key.account
    if code:
        return rows.filter(account=_account(request, code))
    return rows.filter(account=own) if own is not None else rows


def _known(body: dict[str, Any], names: set[str]) -> None:
    errors = FieldErrors()
    for name in sorted(body.keys() - names):
        errors.add(name, body[name], "is not a known field", "known: " + ", ".join(sorted(names)))
    if errors:
        raise InvalidInputError(errors.errors)
