/** The files of `share` that are made from the program's tables. */
import { bashCompletion } from "../../src/documents/bash-completion.ts";
import { manPage } from "../../src/documents/man-page.ts";

/** Content by path below `share`. */
export const SHARE_FILES: { readonly [path: string]: () => string } = {
  "bash-completion/vdo": bashCompletion,
  "man/man8/vdo.8": manPage,
};
