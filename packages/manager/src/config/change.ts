/** Changes of the configuration: one command at a time. */
import { advised, commandError } from "../errors.ts";
import type { Environment } from "../host/environment.ts";
import { acquireLock } from "../host/lock.ts";
import type { Paths } from "../host/paths.ts";
import { Configuration } from "./configuration.ts";

/** How long a command waits for another one that holds the configuration, in milliseconds. */
const LOCK_MILLISECONDS = 20_000;

interface Place {
  readonly environment: Environment;
  readonly paths: Paths;
  readonly configurationFile: string;
}

/** Runs `action` with the configuration locked against other commands. It saves what it changed. */
export async function changeConfiguration<T>(
  { environment, paths, configurationFile }: Place,
  action: (configuration: Configuration) => Promise<T>,
): Promise<T> {
  await paths.prepare();
  const lock = await acquireLock(paths.lock("configuration", configurationFile), LOCK_MILLISECONDS, environment.clock);
  if (lock === undefined) {
    throw commandError(
      "VDO_COMMAND_FAILED",
      advised(
        `Could not lock file ${configurationFile}`,
        "Another vdo command has held it for 20 seconds: wait for its end, or look for it with ps.",
      ),
      configurationFile,
    );
  }
  try {
    return await action(await Configuration.load(configurationFile));
  } finally {
    await lock.release();
  }
}
