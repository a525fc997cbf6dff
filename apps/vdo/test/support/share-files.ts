/** The files of `share` that are made from the program's tables. */
import { bashCompletion } from "../../src/documents/bash-completion.ts";
import { grafanaDashboard } from "../../src/documents/grafana-dashboard.ts";
import { manPage } from "../../src/documents/man-page.ts";
import { metricsDocument } from "../../src/documents/metrics-document.ts";
import { ploopManPage } from "../../src/documents/ploop-man-page.ts";
import { thinManPage } from "../../src/documents/thin-man-page.ts";

/** Content by path below `share`. */
export const SHARE_FILES: { readonly [path: string]: () => string | Promise<string> } = {
  "bash-completion/vdo": bashCompletion,
  "grafana/vdo-dashboard.json": grafanaDashboard,
  "man/man8/vdo-ploop.8": ploopManPage,
  "man/man8/vdo-thin.8": thinManPage,
  "man/man8/vdo.8": manPage,
  "prometheus/metrics.md": metricsDocument,
};
