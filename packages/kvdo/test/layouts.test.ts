import type { Struct } from "@vdo/base";
import { test } from "vitest";
import {
  blockMapComponent,
  blockMapPageHeader,
  componentHeader,
  compressedBlockHeader,
  geometryBlock,
  geometryBlock4,
  indexConfig,
  journalPoint,
  journalSectorHeader,
  layoutComponent,
  packedVersion,
  partitionRecord,
  recoveryJournalComponent,
  recoveryJournalHeader,
  referenceSector,
  slabConfig,
  slabDepotComponent,
  slabJournalHeader,
  superBlock,
  vdoComponent,
  volumeConfig,
  volumeRegion,
} from "../src/format/index.ts";
import { layoutLaws } from "./support/layout-laws.ts";

// biome-ignore lint/suspicious/noExplicitAny: layouts of any fields.
const LAYOUTS: Struct<any>[] = [
  blockMapComponent,
  blockMapPageHeader,
  componentHeader,
  compressedBlockHeader,
  geometryBlock,
  geometryBlock4,
  indexConfig,
  journalPoint,
  journalSectorHeader,
  layoutComponent,
  packedVersion,
  partitionRecord,
  recoveryJournalComponent,
  recoveryJournalHeader,
  referenceSector,
  slabConfig,
  slabDepotComponent,
  slabJournalHeader,
  superBlock,
  vdoComponent,
  volumeConfig,
  volumeRegion,
];

test.each(LAYOUTS.map((layout) => [layout.name, layout] as const))("%s obeys the laws of layouts", (_, layout) => {
  layoutLaws(layout);
});
