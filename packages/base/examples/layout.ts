import { ascii, struct, toHex, u16le, u32le } from "@vdo/base";
import { layoutTable } from "@vdo/base/testing";

// Declared once: reading, writing, size and table follow. The size is checked when the module loads.
const header = struct("Header", 10, { magic: ascii(4), version: u16le, count: u32le });

const bytes = header.encode({ magic: "DEMO", version: 2, count: 1000 });
console.log(toHex(bytes));
// 44454d4f0200e8030000
console.log(header.decode(bytes).count);
// 1000
console.log(layoutTable(header));
// Header: 10 bytes
//      0      4  ascii[4]         magic
//      4      2  u16le            version
//      6      4  u32le            count
