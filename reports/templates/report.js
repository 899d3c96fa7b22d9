(function () {
  "use strict";
  var form = document.getElementById("filter");
  var rows = Array.prototype.slice.call(document.querySelectorAll("#units-table tbody"));
  if (!form || !rows.length) { return; }
  var text = form.elements.text, outcome = form.elements.outcome, slot = form.elements.slot;
  var chip = document.getElementById("chip"), shown = document.getElementById("shown");
  var wanted = null;
  document.documentElement.classList.add("js");
  form.hidden = false;

  function apply() {
    var words = text.value.trim().toLowerCase(), count = 0;
    rows.forEach(function (row) {
      var data = row.dataset;
      var fits = (!wanted || wanted[data.order]) && (!outcome.value || data.outcome === outcome.value) &&
        (!slot.value || data.slot === slot.value) && (!words || row.textContent.toLowerCase().indexOf(words) >= 0);
      row.hidden = !fits;
      count += fits ? 1 : 0;
    });
    shown.textContent = count === rows.length ? "all " + count + " rows" : count + " of " + rows.length + " rows";
  }

  function choose(set) {
    wanted = null;
    document.querySelectorAll(".set.open").forEach(function (each) { each.classList.remove("open"); });
    chip.hidden = !set;
    if (set) {
      wanted = {};
      set.dataset.orders.split(" ").forEach(function (order) { wanted[order] = true; });
      chip.firstChild.textContent = set.dataset.title + " (" + set.dataset.total + ") ";
      if (set.querySelector("span.far")) { set.classList.add("open"); }
    }
    apply();
  }

  function follow() {
    var target = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    if (target && target.classList.contains("set")) {
      text.value = outcome.value = slot.value = "";
      choose(target);
      document.getElementById("units").scrollIntoView();
    } else if (target && target.hidden) {
      choose(null);
      target.scrollIntoView();
    }
  }

  form.addEventListener("input", apply);
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  chip.addEventListener("click", function () {
    history.replaceState(null, "", "#units");
    choose(null);
  });
  document.addEventListener("click", function (event) {
    var link = event.target.closest ? event.target.closest('a[href^="#"]') : null;
    if (link && link.hash === location.hash) { follow(); }
  });
  window.addEventListener("hashchange", follow);
  window.addEventListener("beforeprint", function () { rows.forEach(function (row) { row.hidden = false; }); });
  window.addEventListener("afterprint", apply);
  apply();
  follow();
})();
