/** An audit of a volume that is not running, independent of the engine. */
export { type Audit, audit } from "../../src/testing/index.ts";
