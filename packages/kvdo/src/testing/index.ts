export { type Audit, audit } from "./audit.ts";
export { formatTiny, type TinyOptions, tinyBlocks } from "./tiny-volume.ts";
