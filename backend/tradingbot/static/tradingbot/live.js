/* A page that follows what happens (the overview, a run of the kill switch) while it is looked at: names to the server
   what is shown, keeps focus and scroll where they are when a part is redrawn, tells ages by the server's clock, and
   says plainly when nothing has come for a while. On any other page it only tells the ages. */
(function () {
    "use strict";
    if (document.readyState === "loading") { document.addEventListener("DOMContentLoaded", start); } else { start(); }

    function start() {
    let clockAhead = 0;
    const STALE_AFTER = 5000, board = document.querySelector("[data-live]");
    tellTimes();
    window.setInterval(tellTimes, 1000);
    if (!board) { return; }
    const fresh = document.getElementById("cr-fresh-words"), stale = document.getElementById("cr-stale");
    const says = document.getElementById("cr-says");
    let lastGood = performance.now(), shownAsOf = fresh.textContent, problem = "";
    const scrolled = new Map();

    function age(seconds) {
        const s = Math.max(0, Math.round(seconds));
        if (s < 60) { return s + " s"; }
        if (s < 3600) { return Math.floor(s / 60) + " min " + (s % 60) + " s"; }
        if (s < 172800) { return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min"; }
        return Math.floor(s / 86400) + " days";
    }

    function tellTimes() {
        const now = Date.now() + clockAhead;
        document.querySelectorAll("time.moment").forEach(function (node) {
            const at = Date.parse(node.dateTime), clock = node.title.slice(5, 19);
            const told = node.dataset.tells === "left"
                ? (at > now ? clock + " (" + age((at - now) / 1000) + " left)" : clock + " (over)")
                : clock + " (" + age((now - at) / 1000) + " ago)";
            if (node.textContent !== told) { node.textContent = told; }
        });
    }

    function tellFreshness() {
        const silent = performance.now() - lastGood, isStale = silent > STALE_AFTER || problem === "signed out";
        board.classList.toggle("is-stale", isStale);
        if (isStale) {
            const words = problem === "signed out"
                ? "You are signed out: reload the page to sign in again. What stands below is old."
                : "No answer from the server" + (problem ? " (" + problem + ")" : "") + ". What stands below is " +
                  shownAsOf + ": do not rely on it.";
            if (stale.textContent !== words) { stale.textContent = words; }
            fresh.textContent = "stale, nothing new for " + age(silent / 1000);
        } else {
            fresh.textContent = "live, " + shownAsOf;
            stale.textContent = "";
        }
        stale.hidden = !isStale;
    }

    board.addEventListener("htmx:configRequest", function (event) {
        event.detail.headers["X-Known"] = Array.from(board.querySelectorAll("section[data-digest]"), function (part) {
            return part.id.slice(3) + "=" + part.dataset.digest;
        }).join(",");
    });
    document.body.addEventListener("htmx:oobBeforeSwap", function (event) {
        scrolled.clear();
        event.detail.target.querySelectorAll(".cr-scroll").forEach(function (box, place) {
            scrolled.set(place, box.scrollLeft);
        });
    });
    document.body.addEventListener("htmx:oobAfterSwap", function (event) {
        const part = document.getElementById(event.detail.target.id) || event.detail.target;
        part.querySelectorAll(".cr-scroll").forEach(function (box, place) { box.scrollLeft = scrolled.get(place) || 0; });
        tellTimes();
        if (part.dataset.says && says.textContent !== part.dataset.says) { says.textContent = part.dataset.says; }
    });
    board.addEventListener("htmx:afterRequest", function (event) {
        if (event.detail.elt !== board) { return; }
        const answer = event.detail.xhr, asOf = answer && answer.getResponseHeader("X-As-Of");
        if (event.detail.successful && asOf) {
            lastGood = performance.now();
            clockAhead = Date.parse(asOf) - Date.now();
            shownAsOf = "as of " + asOf.slice(11, 19) + " UTC";
            problem = "";
        } else {
            problem = event.detail.successful ? "signed out" : (answer && answer.status ? "it answers " + answer.status : "");
        }
        tellFreshness();
    });
    window.setInterval(tellFreshness, 1000);
    }
})();
