/** Daemons under service managers: systemd's socket activation and notifications, and the first process of a container. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describeWith } from "@vdo/block-device/testing";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine } from "./support/command-line.ts";

let commands: CommandLine;
beforeAll(async () => {
  commands = await CommandLine.make();
  const image = join(commands.folder, "disk.img");
  const words = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--attach=none"];
  expect((await commands.vdo("create", "--name=v0", `--device=${image}`, ...words)).status).toBe(0);
  expect((await commands.vdo("stop", "--name=v0")).status).toBe(0);
});
afterAll(() => commands.remove());

const START = ["start", "--name=v0", "--foreground"];

/** All that a process says, and a promise of a text in it. */
function listen(child: ChildProcess): { text: () => string; says: (wanted: string) => Promise<void> } {
  let text = "";
  const waiting: { wanted: string; found: () => void }[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (part: Buffer) => {
      text += part;
      for (const { wanted, found } of waiting) if (text.includes(wanted)) found();
    });
  }
  const says = (wanted: string): Promise<void> =>
    new Promise((resolve, reject) => {
      if (text.includes(wanted)) return resolve();
      waiting.push({ wanted, found: resolve });
      child.once("exit", (status) => reject(new Error(`ended with ${status} before it said "${wanted}": ${text}`)));
    });
  return { text: () => text, says };
}

async function statusOf(child: ChildProcess): Promise<number> {
  if (child.exitCode !== null) return child.exitCode;
  return ((await once(child, "exit")) as [number])[0];
}

function activation(): void {
  test("the first connection to the socket of systemd starts the volume and is served by it", async () => {
    const socket = join(commands.folder, "listen.sock");
    const { program, args, env } = commands.vdoProcess(...START);
    const names = Object.keys(env).filter(
      (name) => name.startsWith("VDO_") || name === "PATH" || name === "NODE_OPTIONS",
    );
    const passed = names.map((name) => `--setenv=${name}`);
    const words = ["--listen", socket, ...passed, program, ...args];
    const child = spawn("systemd-socket-activate", words, { env, stdio: ["ignore", "pipe", "pipe"] });
    const said = listen(child);
    while (!existsSync(socket)) await new Promise((resolve) => setTimeout(resolve, 10));
    expect((await commands.vdo("list")).out.trim()).toBe("");
    const client = await NbdClient.connect(`nbd+unix:///v0?socket=${socket}`, { connectMs: 120_000 });
    const block = new Uint8Array(4096).fill(7);
    await client.write(5, block, { fua: true });
    await client.close();
    await said.says("ready at");
    expect((await commands.vdo("list")).out).toBe("v0\n");
    expect((await commands.vdo("stop", "--name=v0")).status).toBe(0);
    expect(await statusOf(child)).toBe(0);
  });
}

const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True:
    print(s.recv(65536).decode().replace("\\n", " | "), flush=True)
`;

function notification(): void {
  test("the service manager is told when the volume is ready, and that it stops", async () => {
    const path = join(commands.folder, "notify.sock");
    const receiver = spawn("/usr/bin/python3", ["-c", RECEIVER, path], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      const heard = listen(receiver);
      await heard.says("bound");
      const { program, args, env } = commands.vdoProcess(...START);
      const child = spawn(program, args, { env: { ...env, NOTIFY_SOCKET: path }, stdio: ["ignore", "pipe", "pipe"] });
      await heard.says("READY=1");
      expect(heard.text()).toContain("STATUS=VDO v0 is served at nbd+unix:///v0?socket=");
      expect((await commands.vdo("list")).out).toBe("v0\n");
      child.kill("SIGTERM");
      await heard.says("STOPPING=1");
      expect(await statusOf(child)).toBe(0);
    } finally {
      receiver.kill();
    }
  });
}

function container(): void {
  test("as the first process of a container: logs on standard error, a clean stop at SIGTERM, status 0", async () => {
    const { program, args, env } = commands.vdoProcess(...START);
    const child = spawn("unshare", ["--pid", "--fork", "--kill-child", program, ...args], {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const said = listen(child);
    await said.says("ready at");
    expect((await commands.state("v0")).pid).toBe(1);
    const inside = Number(await readFile(`/proc/${child.pid}/task/${child.pid}/children`, "utf8"));
    process.kill(inside, "SIGTERM");
    expect(await statusOf(child)).toBe(0);
    expect(said.text()).toContain("v0: INFO - received SIGTERM\n");
    expect(said.text()).toContain("v0: INFO - VDO v0 stopped\n");
    expect((await commands.vdo("audit", "--name=v0")).status).toBe(0);
  });

  test("a start that fails says why on standard error and has the status of its class", async () => {
    const { program, args, env } = commands.vdoProcess("start", "--name=v0", "--foreground", "--socketGroup=nobodys");
    const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    const said = listen(child);
    expect(await statusOf(child)).toBe(7);
    expect(said.text()).toContain("v0: ERROR - group nobodys not found\n");
  });
}

describeWith(["systemd-socket-activate"], "socket activation", activation, { describe, test });
describeWith(["systemd-notify", "/usr/bin/python3"], "notification", notification, { describe, test });
describeWith(["root", "unshare"], "containers", container, { describe, test });
