// A node's right-click menu offers presets, which write values into the node's own widgets: nothing
// is set out of sight, and prompts sent without the canvas know nothing of them.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

let presets = { words: {}, titles: {}, nodes: {} };
let translated = {};

const say = (text) => translated[text] ?? text;

async function load() {
  const answer = await fetch(new URL("presets.json", import.meta.url));
  if (answer.ok) presets = await answer.json();
  const language = app.extensionManager?.setting?.get("Comfy.Locale");
  const texts = language === "en" ? {} : await api.getCustomNodesI18n?.();
  translated = texts?.[language]?.tverase_presets ?? {};
}

const isConnected = (node, name) =>
  node.inputs?.some((input) => input.widget?.name === name && input.link != null);

// Sets widgets as a hand does, with their own callbacks. Returns what was done, by widget.
function write(node, values) {
  const done = { set: [], connected: [] };
  for (const [name, value] of Object.entries(values)) {
    const widget = node.widgets?.find((one) => one.name === name);
    if (!widget || widget.value === value) continue;
    if (isConnected(node, name)) {
      done.connected.push(name);
      continue;
    }
    widget.value = value;
    widget.callback?.(value, app.canvas, node, node.pos);
    done.set.push(`${name} ${value}`);
  }
  return done;
}

// One step for undo; the workflow counts as changed.
function asOneStep(change) {
  app.canvas.emitBeforeChange?.();
  try {
    return change();
  } finally {
    app.canvas.emitAfterChange?.();
    app.canvas.setDirty(true, true);
  }
}

function apply(node, title, { note, values }) {
  const { words } = presets;
  const { set, connected } = asOneStep(() => write(node, values));
  const told = [say(note), set.length ? `${say(words.set)}: ${set.join(", ")}.` : say(words.same)];
  if (connected.length) told.push(`${say(words.connected)}: ${connected.join(", ")}.`);
  if (set.length) told.push(say(words.full_size));
  const message = { severity: "info", summary: say(title), detail: told.join(" "), life: 10000 };
  app.extensionManager?.toast?.add(message);
}

function menuItems(node) {
  const ours = presets.nodes[node.comfyClass];
  if (!ours) return [];
  const options = Object.entries(ours).map(([name, preset]) => ({
    content: say(presets.titles[name]),
    callback: () => apply(node, presets.titles[name], preset),
  }));
  // Nodes 2.0 opens a submenu only where `has_submenu` says that there is one
  return [{ content: say(presets.words.menu), has_submenu: true, submenu: { options } }];
}

const extension = { name: "TVErase.Presets", setup: load };

if (app.collectNodeMenuItems) {
  extension.getNodeMenuItems = menuItems;
} else {
  // frontends before getNodeMenuItems
  extension.beforeRegisterNodeDef = (nodeType, definition) => {
    if (!definition.name.startsWith("TVErase")) return;
    const others = nodeType.prototype.getExtraMenuOptions;
    nodeType.prototype.getExtraMenuOptions = function (canvas, options) {
      const more = others?.apply(this, arguments);
      options.push(...menuItems(this));
      return more;
    };
  };
}

app.registerExtension(extension);
