/**
 * CRC-32 (reflected polynomial 0xEDB88320) and CRC-32C (0x82F63B78), eight bytes a step.
 *
 * Start value and final exclusive-or are arguments, because the formats differ: the VDO geometry block and super block
 * start at 0 and end with 0xFFFFFFFF.
 */

function makeTables(polynomial: number): Uint32Array {
  const tables = new Uint32Array(8 * 256);
  for (let i = 0; i < 256; i++) {
    let crc = i;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ polynomial : crc >>> 1;
    tables[i] = crc >>> 0;
  }
  for (let i = 0; i < 256; i++) {
    let crc = tables[i] as number;
    for (let k = 1; k < 8; k++) {
      crc = (crc >>> 8) ^ (tables[crc & 0xff] as number);
      tables[k * 256 + i] = crc >>> 0;
    }
  }
  return tables;
}

const CRC32_TABLES = makeTables(0xedb88320);
const CRC32C_TABLES = makeTables(0x82f63b78);

function update(tables: Uint32Array, start: number, data: Uint8Array): number {
  let crc = start >>> 0;
  let i = 0;
  const whole = data.length - (data.length % 8);
  for (; i < whole; i += 8) {
    const low =
      crc ^
      ((data[i] as number) |
        ((data[i + 1] as number) << 8) |
        ((data[i + 2] as number) << 16) |
        ((data[i + 3] as number) << 24));
    crc =
      (tables[7 * 256 + (low & 0xff)] as number) ^
      (tables[6 * 256 + ((low >>> 8) & 0xff)] as number) ^
      (tables[5 * 256 + ((low >>> 16) & 0xff)] as number) ^
      (tables[4 * 256 + (low >>> 24)] as number) ^
      (tables[3 * 256 + (data[i + 4] as number)] as number) ^
      (tables[2 * 256 + (data[i + 5] as number)] as number) ^
      (tables[256 + (data[i + 6] as number)] as number) ^
      (tables[data[i + 7] as number] as number);
  }
  for (; i < data.length; i++) crc = (crc >>> 8) ^ (tables[(crc ^ (data[i] as number)) & 0xff] as number);
  return crc >>> 0;
}

/** CRC-32 of `data`. The usual CRC-32 (zlib) is `start` 0xFFFFFFFF and `finalXor` 0xFFFFFFFF, the defaults. */
export function crc32(data: Uint8Array, start = 0xffffffff, finalXor = 0xffffffff): number {
  return (update(CRC32_TABLES, start, data) ^ finalXor) >>> 0;
}

/** CRC-32C (Castagnoli) of `data`; defaults as in iSCSI. */
export function crc32c(data: Uint8Array, start = 0xffffffff, finalXor = 0xffffffff): number {
  return (update(CRC32C_TABLES, start, data) ^ finalXor) >>> 0;
}
