export interface FileRange {
  /** Bytes. */
  offset: number;
  length: number;
}

/**
 * What an image is stored in: a file that grows, and the folder it lies in.
 *
 * - A write is seen by every later read; it is durable after a `flush` called after it resolved, and so is the length.
 * - Until then a crash keeps any of the versions written, sector by sector; also of the length.
 * - What lies between an old end and a new one reads as zeros.
 */
export interface ImageFile {
  /** For messages. */
  readonly name: string;
  /** Bytes, as of the last change made here or the last {@link refresh}. */
  readonly length: number;
  readonly readOnly: boolean;
  /** The same for two handles on one file, whatever its names. */
  readonly identity?: string;
  /** Fills `target` from `offset`. Throws `VDO_IO` when the file ends earlier. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Writes inside the file; extends it where needed. */
  write(offset: number, source: Uint8Array): Promise<void>;
  /** Makes the range read as zeros, as a hole where that is cheap. The file keeps its length. */
  zero(offset: number, length: number): Promise<void>;
  /**
   * Makes the ranges read as zeros and gives their space back. Only where the host can do it; rejects when it turns out that it
   * cannot.
   */
  punch?(ranges: readonly FileRange[]): Promise<void>;
  /** Cuts or extends (with zeros). */
  setLength(length: number): Promise<void>;
  flush(): Promise<void>;
  /** Takes the length anew: somebody else may have changed the file. */
  refresh(): Promise<void>;
  close(): Promise<void>;
}

export interface ImageDirectory {
  /** Opens an existing file. Names are relative to the folder, or absolute. Throws `VDO_IO` (operation `open`). */
  open(name: string, options: { readOnly: boolean }): Promise<ImageFile>;
  /** Creates a file that does not exist yet, mode 0600. */
  create(name: string): Promise<ImageFile>;
  exists(name: string): Promise<boolean>;
  readText(name: string): Promise<string>;
  /** Replaces the content of `name`, or creates it; durable when it resolves. Not atomic: write aside and rename. */
  writeText(name: string, text: string): Promise<void>;
  /** Atomic; durable when it resolves. */
  rename(from: string, to: string): Promise<void>;
  unlink(name: string): Promise<void>;
}
