/** The dirty bitmaps of a ploop disk, running or at rest. */
import type { DirtyBitmap, DirtyRange, PloopDevice, PloopDisk } from "@vdo/ploop";
import { commandError } from "../errors.ts";

export const BITMAP_ACTIONS = ["show", "start", "clear", "drop"] as const;
export type BitmapAction = (typeof BITMAP_ACTIONS)[number];

export interface BitmapRequest {
  action: BitmapAction;
  /** Without braces. Of `show`: all when absent. */
  uuid?: string;
  /** Of `start`: sectors of one bit. */
  granularity?: number;
}

export interface BitmapReport {
  uuid: string;
  granularity: number;
  ranges: DirtyRange[];
}

/** Acts on a running stack; resolves with the bitmaps asked for, or changed. `clear` resolves with what had changed. */
export function actOnBitmaps(device: PloopDevice, request: BitmapRequest): BitmapReport[] {
  const { action, uuid = "", granularity } = request;
  const { bitmaps, engine } = device;
  const { sizeSectors } = engine.top.header;
  if (action === "show") return reportsOf(bitmaps.list, request.uuid);
  if (action === "start") {
    return [reportOf(bitmaps.start({ uuid, sizeSectors, ...(granularity === undefined ? {} : { granularity }) }))];
  }
  const report = reportOf(bitmaps.get(uuid));
  if (action === "clear") bitmaps.get(uuid).clear();
  else bitmaps.drop(uuid);
  return [report];
}

/** The same for a disk that nobody runs. */
export async function actOnBitmapsAtRest(disk: PloopDisk, request: BitmapRequest): Promise<BitmapReport[]> {
  if (request.action === "show") return reportsOf(await disk.bitmaps(), request.uuid);
  const device = await disk.open({ refuseDirty: true });
  try {
    return actOnBitmaps(device, request);
  } finally {
    await device.close();
  }
}

function reportsOf(bitmaps: readonly DirtyBitmap[], uuid: string | undefined): BitmapReport[] {
  const found = bitmaps.filter((one) => uuid === undefined || one.uuid === uuid);
  if (uuid !== undefined && found.length === 0) throw commandError("VDO_USER", `there is no bitmap ${uuid}`, uuid);
  return found.map(reportOf);
}

function reportOf(bitmap: DirtyBitmap): BitmapReport {
  return { uuid: bitmap.uuid, granularity: bitmap.granularity, ranges: bitmap.ranges() };
}
