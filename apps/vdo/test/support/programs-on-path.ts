/**
 * `vdo`, `vdostats` and `sudo` as programs on a PATH of their own, for programs of others that call them. Each is a few lines
 * of Python that hand their words to the test's process, where the commands run: that saves the start of Node for every call.
 */
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import type { CommandLine, Outcome } from "./command-line.ts";

const CLIENT = `#!/usr/bin/python3
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("SOCKET")
s.sendall(json.dumps([os.path.basename(sys.argv[0])] + sys.argv[1:]).encode() + b"\\n")
outcome = json.loads(s.makefile().read())
sys.stdout.write(outcome["out"]); sys.stdout.flush(); sys.stderr.write(outcome["err"]); sys.exit(outcome["status"])
`;

/** Stands for programs that the callers run: sudo runs its words; blockdev --getsz tells the size of a regular file. */
const SCRIPTS: Readonly<Record<string, string>> = {
  sudo: '#!/bin/sh\nexec "$@"\n',
  blockdev: '#!/bin/sh\necho $(($(stat -c %s "$2") / 512))\n',
};

export interface ProgramsOnPath {
  /** What other programs are to be run with. */
  environment: NodeJS.ProcessEnv;
  /** Every call so far: the program and its words. */
  calls: string[];
  close(): void;
}

export async function programsOnPath(commands: CommandLine): Promise<ProgramsOnPath> {
  const folder = join(commands.folder, "bin");
  await mkdir(folder);
  const path = join(commands.folder, "commands.sock");
  const calls: string[] = [];
  const server = await listen(path, async (words) => {
    calls.push(words.join(" "));
    const [program, ...rest] = words;
    return program === "vdostats" ? commands.vdostats(...rest) : commands.vdo(...rest);
  });
  const scripts = { ...SCRIPTS, vdo: CLIENT, vdostats: CLIENT };
  for (const [name, script] of Object.entries(scripts)) {
    await writeFile(join(folder, name), script.replace("SOCKET", path));
    await chmod(join(folder, name), 0o755);
  }
  return {
    environment: { ...process.env, PATH: `${folder}:/usr/bin:/bin:/usr/sbin:/sbin` },
    calls,
    close: () => server.close(),
  };
}

function listen(path: string, answer: (words: string[]) => Promise<Outcome>): Promise<Server> {
  const server = createServer((socket) => {
    let text = "";
    socket.setEncoding("utf8").on("data", (part: string) => {
      text += part;
      if (!text.endsWith("\n")) return;
      void answer(JSON.parse(text) as string[]).then((outcome) => socket.end(JSON.stringify(outcome)));
    });
  });
  return new Promise((resolve) => server.listen(path, () => resolve(server)));
}
