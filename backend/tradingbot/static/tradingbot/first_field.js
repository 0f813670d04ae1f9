/* Where a page asks for a reason, the keys go to that field. A browser that is busy while it loads the page leaves out
   `autofocus` now and then, and a reason typed then would go nowhere. Nobody's own choice of a field is overruled. */
window.addEventListener("load", function () {
    "use strict";
    const field = document.querySelector("form [autofocus]");
    if (field && document.activeElement === document.body) { field.focus(); }
});
