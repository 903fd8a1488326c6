// Collects whatever goes wrong in the page in an attribute of its root, for
// the tests and for whoever reports a bug. It has to be the first script.
"use strict";
(() => {
  const root = document.documentElement;
  const note = (fault) => { root.dataset.faults = (root.dataset.faults || "") + fault + "\n"; };
  addEventListener("error", (e) => note("error: " + e.message));
  addEventListener("unhandledrejection", (e) => note("rejection: " + e.reason));
  document.addEventListener("securitypolicyviolation", (e) => note("policy: " + e.violatedDirective + " " + e.blockedURI));
  const log = console.error;
  console.error = (...args) => { note("console: " + args.join(" ")); log.apply(console, args); };
})();
