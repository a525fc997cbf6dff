/** Speed and memory of @vdo/uds by itself: new names, known names, and bytes per record it can hold. */
import { systemClock } from "@vdo/base";
import { FileDevice } from "@vdo/block-device";
import { indexMemory, UdsIndex } from "@vdo/uds";

export interface IndexFigures {
  records: number;
  /** Posts of names never seen. */
  newPerSecond: number;
  /** Posts of names known, in the order they came: what a second copy of the data does. */
  knownPerSecond: number;
  /** Share of the known names that were found. */
  foundShare: number;
  memoryBytes: number;
  recordsMax: number;
  bytesPerRecord: number;
}

const BATCH = 65_536;

/** 16-byte names of records `first`…: any well mixed function of the number will do. */
function fillNames(names: Uint8Array, first: number): void {
  const words = new Uint32Array(names.buffer);
  for (let i = 0; i < words.length; i++) {
    let z = Math.imul((first * 4 + i) ^ 0x9e3779b9, 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    words[i] = z ^ (z >>> 15);
  }
}

/** Measures a dense index of 0.25 GB on a file at `path`, with `batches` × 65536 records. */
export async function measureIndex(path: string, batches: number): Promise<IndexFigures> {
  const device = await FileDevice.open({ path });
  const index = await UdsIndex.create({ device, memory: 0.25 });
  const names = new Uint8Array(BATCH * 16);
  const values = new Uint8Array(BATCH * 16).fill(7);
  let found = 0;
  const pass = async (): Promise<number> => {
    let seconds = 0;
    for (let batch = 0; batch < batches; batch++) {
      fillNames(names, batch * BATCH);
      const began = systemClock.now();
      found += (await index.postBatch(names, values)).foundCount;
      seconds += (systemClock.now() - began) / 1000;
    }
    return (batches * BATCH) / seconds;
  };
  const newPerSecond = await pass();
  const foundInFirst = found;
  const knownPerSecond = await pass();
  await index.close({ save: false });
  await device.close();
  const { total, records } = indexMemory({ memory: 0.25 });
  return {
    records: batches * BATCH,
    newPerSecond,
    knownPerSecond,
    foundShare: (found - foundInFirst) / (batches * BATCH),
    memoryBytes: total,
    recordsMax: records,
    bytesPerRecord: total / records,
  };
}
