// Our nodes show a picture of the work so far, then their result. The frontend keeps the first
// beside the second: Nodes 2.0 shows both, the canvas the smaller one. So it is put away.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const OURS = "tverase_"; // how the names of our nodes' pictures begin

function putAway({ detail }) {
  const pictures = detail?.output?.images ?? [];
  if (!pictures.some((picture) => picture.filename?.startsWith(OURS))) return;
  const { $pinia } = document.querySelector("#vue-app")?.__vue_app__?.config.globalProperties ?? {};
  const shown = $pinia?._s.get("nodeOutput");
  const node = String(detail.display_node ?? detail.node);
  if (node.includes(":")) shown?.revokePreviewsByExecutionId?.(node); // inside a subgraph
  else if (shown?.revokePreviewsByLocatorId) shown.revokePreviewsByLocatorId(node);
  else {
    delete app.nodePreviewImages?.[node]; // frontends of 2025 revoke too late: after the drawing
    delete shown?.nodePreviewImages?.[node];
  }
}

app.registerExtension({
  name: "TVErase.Previews",
  setup: () => api.addEventListener("executed", putAway),
});
