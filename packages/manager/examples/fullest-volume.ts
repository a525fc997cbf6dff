import { clientEnvironment, RunningVolumes } from "@vdo/manager";

const running = new RunningVolumes(clientEnvironment("1.0.0"));
let fullest = { name: "none", percent: 0 };
for (const volume of await running.all()) {
  const { statistics } = await running.sample(volume);
  const used = statistics.dataBlocksUsed + statistics.overheadBlocksUsed;
  const percent = (100 * used) / statistics.physicalBlocks;
  if (percent > fullest.percent) fullest = { name: volume.name, percent };
}
console.log(`${fullest.name} is ${fullest.percent.toFixed(1)} % full`);
