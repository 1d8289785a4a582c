/* ---- The view: filter, order, folds and the open cell. It is in the address, to be sent. ---- */

// With many tests the groups are the overview; with few, nobody wants to open them.
const MANY = 200;
// An address that is too long is cut by whatever sends it.
const FOLDS_KEPT = 30;
const CONTROLS = { filter: "", show: "all", device: "", sort: "worst", colour: "outcome" };
const usually = tests.length > MANY ? "closed" : "open";

// Groups are as `all` says, but for those in `other`. What a filter finds is shown, also where the
// group was closed before: its folds are its own.
const folds = {
  usual: { all: usually, other: new Set() },
  found: { all: "open", other: new Set() },
};
let opened = null;

const wanted = () => ({ text: $("filter").value.trim().toLowerCase(), show: $("show").value, device: $("device").value });
const filtering = () => Object.values(wanted()).some((value) => value && value !== "all");
const fold = () => (filtering() ? folds.found : folds.usual);
const isOpen = (group) => (fold().all === "open") !== fold().other.has(group.key);
const byCost = () => $("colour").value === "cost";

function viewInAddress() {
  const view = new URLSearchParams();
  for (const [name, usual] of Object.entries(CONTROLS)) {
    if ($(name).value !== usual) view.set(name, $(name).value);
  }
  const { all, other } = fold();
  if (all !== (filtering() ? "open" : usually)) view.set("groups", all);
  for (const key of [...other].slice(0, FOLDS_KEPT)) view.append(all === "open" ? "close" : "open", key);
  if (opened) {
    view.set("test", opened.test.key);
    if (devices.length > 1) view.set("on", opened.test.device);
    view.set("dtype", opened.cell.label);
  }
  // Paths and node ids stay readable: neither character ends a fragment.
  return view.toString().replaceAll("%2F", "/").replaceAll("%3A", ":");
}

let address = "";

// A step that people take back is an entry of its own. After a cell was closed, its entry shows the
// same as the one before it: the next step takes its place.
function keepView({ step, spare = false }) {
  const view = viewInAddress();
  if (view === address) return;
  address = view;
  const url = location.href.split("#")[0] + (view && `#${view}`);
  try {
    if (step && !history.state?.spare) history.pushState({ spare }, "", url);
    else history.replaceState({ spare: step ? spare : Boolean(history.state?.spare) }, "", url);
  } catch {
    // Some viewers of artifacts allow no page a history: then there is no address to send.
  }
}

// Sets the controls as the address says. Returns which cell it names; null for none.
function takeView() {
  address = location.hash.slice(1);
  const view = new URLSearchParams(address);
  for (const [name, usual] of Object.entries(CONTROLS)) {
    $(name).value = view.get(name) ?? usual;
    // A choice that there is no more.
    if ($(name).value !== (view.get(name) ?? usual)) $(name).value = usual;
  }
  const all = view.get("groups");
  const now_ = fold();
  now_.all = all === "open" || all === "closed" ? all : filtering() ? "open" : usually;
  now_.other = new Set(view.getAll(now_.all === "open" ? "close" : "open"));
  return view.has("test") ? { key: view.get("test"), device: view.get("on"), label: view.get("dtype") } : null;
}
