/** The files of `share`, by path. */
import { bashCompletion, manPage } from "../../src/documents.ts";

export const SHARE_FILES: { readonly [path: string]: () => string } = {
  "bash-completion/vdostats": bashCompletion,
  "man/man8/vdostats.8": manPage,
};
