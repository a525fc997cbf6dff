/** What the daemon needs of an NBD server; the real one is `@vdo/nbd`'s. */
import type { BlockDevice } from "@vdo/block-device";

export interface ExportOptions {
  /** Export name; the empty name leads to the same export. */
  name: string;
  device: BlockDevice;
  socketPath: string;
  /** An inherited listening socket to serve on besides `socketPath`. */
  descriptor?: number | undefined;
  log(level: "info" | "warning" | "error", text: string): void;
}

export interface ExportServer {
  /** Client connections open now. */
  connections(): number;
  /** Stops accepting, answers what is in flight, closes connections. */
  close(): Promise<void>;
}

export type Exporter = (options: ExportOptions) => Promise<ExportServer>;
