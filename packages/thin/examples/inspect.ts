import { FileDevice } from "@vdo/block-device";
import { check, dump, isHealthy, ls } from "@vdo/thin";

const metadata = await FileDevice.open({ path: process.argv[2] ?? "metadata.img", readOnly: true });
const report = await check(metadata);
for (const { severity, structure, text } of report.problems) console.log(`${severity}: ${structure}: ${text}`);
if (isHealthy(report)) {
  process.stdout.write(await ls(metadata));
  for await (const piece of dump(metadata)) process.stdout.write(piece);
}
await metadata.close();
