/** The offline tools about metadata, one method each; each resolves with the exit status of the stand-alone tool. */
import type { DumpedPages } from "@vdo/kvdo";
import { type SizeQuestion, sizeLines } from "./commands/calculate-size.ts";
import type { CommandContext } from "./commands/context.ts";
import { type FormatVolumeOptions, formatVolume } from "./commands/format.ts";
import {
  copyMetadata,
  debugMetadata,
  dumpBlockMap,
  dumpConfig,
  listMetadata,
  regenerateGeometry,
  setUuid,
} from "./commands/metadata-tools.ts";
import type { StorageChoice, ToolOutput } from "./commands/offline.ts";

type With<T> = T & { output: ToolOutput };

export class OfflineTools {
  readonly #context: CommandContext;
  readonly #device: (storage: StorageChoice) => Promise<string>;

  constructor(context: CommandContext, device: (storage: StorageChoice) => Promise<string>) {
    this.#context = context;
    this.#device = device;
  }

  /** Prints all mappings, or the one of a logical block. */
  async dumpBlockMap(storage: StorageChoice, options: With<{ lba?: number | undefined }>): Promise<number> {
    return dumpBlockMap(this.#context, { device: await this.#device(storage), ...options });
  }

  /** Prints where the metadata lies. */
  async listMetadata(storage: StorageChoice, options: With<object>): Promise<number> {
    return listMetadata(this.#context, { device: await this.#device(storage), ...options });
  }

  /** Copies the metadata to the file `target`. */
  async dumpMetadata(storage: StorageChoice, options: With<{ pages: DumpedPages; target: string }>): Promise<number> {
    return copyMetadata(this.#context, { device: await this.#device(storage), ...options });
  }

  /** Searches a metadata dump. */
  debugMetadata(dump: string, options: With<{ pbns: readonly number[]; lbns: readonly number[] }>): Promise<number> {
    return debugMetadata(this.#context, { device: dump, ...options });
  }

  /** Prints the stored configuration as YAML. */
  async dumpConfig(storage: StorageChoice, options: With<object>): Promise<number> {
    return dumpConfig(this.#context, { device: await this.#device(storage), ...options });
  }

  /** Writes another UUID; a random one for the empty string. */
  async setUuid(storage: StorageChoice, uuid: string): Promise<number> {
    return setUuid(this.#context, await this.#device(storage), uuid);
  }

  /** Writes a first block for a volume that lost it. */
  async regenerateGeometry(storage: StorageChoice, options: With<{ offset?: number | undefined }>): Promise<number> {
    return regenerateGeometry(this.#context, { device: await this.#device(storage), ...options });
  }

  /** Makes a volume on storage, without starting or configuring it. */
  format(options: FormatVolumeOptions): Promise<number> {
    return formatVolume(this.#context, options);
  }

  /** Lines about what a volume of given sizes takes. */
  calculateSize(question: SizeQuestion): string[] {
    return sizeLines(question, this.#context.environment.engine);
  }
}
