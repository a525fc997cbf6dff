/**
 * The status page of a real volume in a real browser: what it shows, what it switches, whom it refuses, and whether everybody
 * can use it. With VDO_SCREENSHOTS=FOLDER the states that are looked at are stored there as pictures.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Random } from "@vdo/base";
import { describeWith, findProgram } from "@vdo/block-device/testing";
import { NbdClient } from "@vdo/nbd";
import axe, { type AxeResults } from "axe-core";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, processGone, runProgram } from "./support/command-line.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));

/** No GPU, no sandbox (tests may run as root), and not a word to anybody else's server. */
const BROWSER_WORDS = [
  ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"],
  ...["--disable-background-networking", "--disable-component-update"],
  "--host-resolver-rules=MAP rebound.test 127.0.0.1",
];

/** Rules of WCAG 2.2 up to AA, and the best practices that axe-core knows besides. */
const AXE_OPTIONS = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] };

const MIB = 1024 ** 2;
const data = new Random(1).fill(new Uint8Array(16 * MIB));

let commands: CommandLine;
let browser: Browser;
let url: string;

/** Runs a command that must succeed. */
async function vdo(...words: string[]): Promise<string> {
  const { status, out, err } = await commands.vdo(...words);
  if (status !== 0) throw new Error(`vdo ${words.join(" ")}: ${err}`);
  return out;
}

const pageUrl = (output: string): string => /Status page: (\S+)/.exec(output)?.[1] ?? "";

/** What the page asked for and complained of, besides the page. */
interface Opened {
  page: Page;
  requests: string[];
  complaints: string[];
}

async function open(address: string, options: BrowserContextOptions = {}): Promise<Opened> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const requests: string[] = [];
  const complaints: string[] = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.goto(address);
  return { page, requests, complaints };
}

/** The page with its data, charts included. */
async function opened(address: string, options: BrowserContextOptions = {}): Promise<Opened> {
  const all = await open(address, options);
  await all.page.locator("#throughput-chart").getByRole("img").waitFor();
  return all;
}

const inOperation = (page: Page) => page.locator("#mode", { hasText: "Normal operation" }).waitFor();

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const results = await page.evaluate(
    (options) => (globalThis as unknown as { axe: typeof axe }).axe.run(options) as Promise<AxeResults>,
    AXE_OPTIONS,
  );
  return results.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" | ")}`);
}

async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env["VDO_SCREENSHOTS"];
  if (folder !== undefined) await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}

const KINDS = {
  light: { colorScheme: "light", size: { width: 1280, height: 900 } },
  dark: { colorScheme: "dark", size: { width: 1280, height: 900 } },
  narrow: { colorScheme: "light", size: { width: 320, height: 640 } },
} as const;

/** Nobody is kept out, in either scheme and on a narrow screen. */
async function expectUsable(address: string, name: string, prepare = async (_page: Page) => undefined as unknown) {
  const { page } = await open("about:blank");
  await prepare(page);
  await page.goto(address);
  await page.getByRole("heading", { level: 2 }).first().waitFor();
  await page.waitForLoadState("networkidle");
  for (const [kind, { colorScheme, size }] of Object.entries(KINDS)) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize(size);
    await picture(page, `${name}-${kind}`);
    expect(await violations(page), `${name}, ${kind}`).toEqual([]);
    const widths = (await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")) as [number, number];
    expect(widths[0], `${name}, ${kind}: no scrolling to the side`).toBeLessThanOrEqual(widths[1]);
  }
}

function suite(): void {
  beforeAll(async () => {
    const built = await runProgram(join(root, "node_modules/.bin/tsc"), [
      "-p",
      join(root, "packages/manager/src/status-page/browser"),
    ]);
    expect(built).toEqual({ status: 0, out: "", err: "" });
    commands = await CommandLine.make();
    const image = join(commands.folder, "disk.img");
    const sizes = ["--vdoPhysicalSize=8G", "--vdoSlabSize=128M", "--vdoLogicalSize=20G"];
    url = pageUrl(
      await vdo("create", "--name=v0", `--device=${image}`, ...sizes, "--attach=none", "--statusPage=enabled"),
    );
    const client = await NbdClient.connect((await commands.state("v0")).attach.path);
    for (const start of [0, 10_000]) await client.write(start, data);
    await client.read(0, new Uint8Array(MIB));
    await client.flush();
    await client.close();
    browser = await chromium.launch({ executablePath: findProgram("chromium") ?? "chromium", args: BROWSER_WORDS });
  });
  afterEach(async () => {
    for (const context of browser.contexts()) {
      for (const page of context.pages()) await page.unrouteAll({ behavior: "ignoreErrors" });
      await context.close();
    }
  });
  afterAll(async () => {
    await browser?.close();
    await commands?.remove();
  });

  test("the page shows what vdostats shows, and asks nobody but its daemon", async () => {
    const { page, requests, complaints } = await opened(url);
    expect(page.url()).toBe(new URL("/", url).href);
    const [{ stats }] = JSON.parse((await commands.vdostats("--json")).out) as [{ stats: Record<string, number> }];
    const [, row = ""] = (await commands.vdostats("--human-readable")).out.split("\n");
    const [, size, used, available, percent, saving] = row.split(/\s+/);
    const text = (id: string) => page.locator(`#${id}`).textContent();
    const short = async (id: string) => (await text(id))?.replace(/ ([KMGT])iB$/, "$1");
    expect(await text("name")).toBe("v0");
    expect(await short("physical-size")).toBe(size);
    expect(await short("physical-used")).toBe(used);
    expect(await short("physical-available")).toBe(available);
    expect((await text("saving"))?.replace(" ", "")).toBe(saving);
    expect(await short("logical-size")).toBe("20.0G");
    expect(saving).toBe("50%");
    expect(await page.getByRole("heading", { name: "Physical:" }).textContent()).toBe(
      `Physical: ${percent?.replace("%", " %")} in use`,
    );
    await page.getByText("Show every value of vdostats --verbose").click();
    const cell = page.getByRole("row", { name: "dataBlocksUsed" }).getByRole("cell");
    expect(await cell.textContent()).toBe(String(stats["dataBlocksUsed"]));
    expect(complaints).toEqual([]);
    expect(requests.length).toBeGreaterThan(5);
    expect(requests.filter((one) => !one.startsWith(new URL("/", url).href))).toEqual([]);
  });

  test("without the token the page tells nothing, and with it everything", async () => {
    const bare = new URL("/", url).href;
    const { page } = await open(bare);
    await page.getByRole("heading", { name: "The token is missing" }).waitFor();
    expect(await page.locator("#content").isVisible()).toBe(false);
    expect(await page.locator("#name").textContent()).toBe("");
    expect((await fetch(new URL("api/snapshot", bare))).status).toBe(401);
    await page.getByRole("textbox", { name: "Token" }).fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("belongs to an earlier start").waitFor();
    await page
      .getByRole("textbox", { name: "Token" })
      .fill(new URLSearchParams(new URL(url).hash.slice(1)).get("token") ?? "");
    await page.keyboard.press("Enter");
    await inOperation(page);
    await page.reload();
    await inOperation(page);
    await expectUsable(bare, "refused");
  });

  test("other sites get nothing: neither by a request of their own nor by a name bound to 127.0.0.1", async () => {
    const { port } = new URL(url);
    const answer = (await (await open(`http://rebound.test:${port}/`)).page.textContent("body")) ?? "";
    expect(answer).toContain("FORBIDDEN_HOST");
    const other = createServer((_request, response) => response.end("another site")).listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const { page } = await open(`http://127.0.0.1:${(other.address() as AddressInfo).port}/`);
    const token = new URLSearchParams(new URL(url).hash.slice(1)).get("token");
    const outcomes = await page.evaluate(
      async ({ base, authorization }) => {
        const tries = [
          fetch(`${base}api/snapshot`, { headers: { Authorization: authorization } }),
          fetch(`${base}api/snapshot`),
          fetch(base),
          fetch(`${base}api/compression`, { method: "POST", body: '{"enabled":false}' }),
        ];
        return (await Promise.allSettled(tries)).map(({ status }) => status);
      },
      { base: new URL("/", url).href, authorization: `Bearer ${token}` },
    );
    expect(outcomes).toEqual(["rejected", "rejected", "rejected", "rejected"]);
    expect(await vdo("status", "--name=v0")).toContain("    Compression: enabled\n");
    await new Promise((resolve) => other.close(resolve));
  });

  test("switches work from the keyboard, act at once and are kept", async () => {
    const { page, complaints } = await opened(url);
    for (const [name, key] of [
      ["Compression", "Space"],
      ["Deduplication", "Enter"],
    ] as const) {
      const control = page.getByRole("switch", { name });
      expect(await control.getAttribute("aria-checked")).toBe("true");
      for (const [state, stored] of [
        ["off", "disabled"],
        ["on", "enabled"],
      ] as const) {
        await control.focus();
        await page.keyboard.press(key);
        await page.getByText(`${name} is ${state}`).waitFor({ state: "attached" });
        expect(await control.textContent()).toBe(state);
        expect(await vdo("status", "--name=v0")).toContain(`    ${name}: ${stored}\n`);
        expect(await page.evaluate("document.activeElement.id")).toBe(name.toLowerCase());
      }
    }
    expect(complaints).toEqual([]);
  });

  test("the keyboard reaches everything in order, and sees where it is", async () => {
    const { page } = await opened(url);
    const reached: string[] = [];
    const focused = `(() => {
      const element = document.activeElement;
      return [element.id || element.getAttribute("aria-label") || element.textContent, getComputedStyle(element).outlineStyle];
    })()`;
    for (let step = 0; step < 9; step++) {
      await page.keyboard.press("Tab");
      const [name, outline] = (await page.evaluate(focused)) as [string, string];
      expect(outline, name).toBe("solid");
      reached.push(name);
    }
    expect(reached).toEqual([
      ...["Skip to the status", "pause", "deduplication", "compression", "Space saving as a table"],
      ...["Requests of clients, means over two seconds", "Throughput as a table", "Latency as a table"],
      "Show every value of vdostats --verbose",
    ]);
    await page.getByText("Throughput as a table").click();
    expect(await page.locator("#throughput-chart").getByRole("row").count()).toBeGreaterThan(1);
    expect(await page.locator("#throughput-chart").getByRole("img").getAttribute("aria-label")).toMatch(
      /^Throughput over .+\. Read: now .+, between .+ and .+\. Write: /,
    );
  });

  test("updates can be paused, and motion stays away from those who do not want it", async () => {
    const { page, requests } = await opened(url, { reducedMotion: "reduce" });
    await page.getByRole("button", { name: "Pause updates" }).click();
    expect(await page.getByRole("button", { name: "Pause updates" }).getAttribute("aria-pressed")).toBe("true");
    await page.waitForLoadState("networkidle");
    const before = requests.length;
    await page.waitForTimeout(2500);
    expect(requests.length).toBe(before);
    const duration = (shown: Page) =>
      shown.evaluate('getComputedStyle(document.querySelector("#compression"), "::before").transitionDuration');
    expect(await duration(page)).toBe("0s");
    expect(await duration((await opened(url, { reducedMotion: "no-preference" })).page)).not.toBe("0s");
  });

  test("a volume in normal operation is shown to everybody", async () => {
    await expectUsable(url, "normal");
  });

  test("a recovering volume tells how far it is, and what to do", async () => {
    const prepare = (page: Page) =>
      page.route("**/api/snapshot", async (route) => {
        const snapshot = (await (await route.fetch()).json()) as object;
        const notice = {
          severity: "warning",
          title: "The volume is recovering",
          text: "It was not stopped cleanly.",
          nextStep: "Wait.",
          commands: [],
        };
        const recovery = { phase: "slabs", done: 11, of: 39 };
        await route.fulfill({
          json: { ...snapshot, mode: "recovering", space: null, recovery, notices: [notice] },
        });
      });
    await expectUsable(url, "recovering", prepare);
    const { page } = await open("about:blank");
    await prepare(page);
    await page.goto(url);
    await page.getByText("Reference counts of the slabs: 28 % (11 of 39)").waitFor();
    expect(await page.getByRole("progressbar").getAttribute("value")).toBe("28");
    expect(await page.title()).toBe("(!) v0: Recovering - VDO volume");
    expect(await page.getByText("The space cannot be told").isVisible()).toBe(true);
  });

  test("a daemon that is gone is missed, and the next one has another token", async () => {
    const { page } = await opened(url);
    const { pid } = await commands.state("v0");
    await vdo("stop", "--name=v0");
    await processGone(pid);
    await page.getByRole("heading", { name: "The daemon does not answer" }).waitFor();
    expect(await violations(page)).toEqual([]);
    const { port } = new URL(url);
    const next = pageUrl(await vdo("start", "--name=v0", `--statusPage=${port}`));
    await page.getByRole("heading", { name: "The token is missing" }).waitFor();
    await page.goto(next);
    await inOperation(page);
  });

  test("a read-only volume and one that is nearly full say what to do", async () => {
    await vdo("stop", "--name=v0");
    expect((await commands.vdo("setReadOnly", "--name=v0")).status).toBe(0);
    const readOnly = pageUrl(await vdo("start", "--name=v0"));
    await expectUsable(readOnly, "read-only");
    const { page } = await open(readOnly);
    await page.getByText("vdo forceRebuild --name=v0").waitFor();
    expect(await page.getByRole("switch", { name: "Compression" }).isDisabled()).toBe(true);
    const image = join(commands.folder, "small.img");
    const sizes = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M"];
    const full = pageUrl(
      await vdo("create", "--name=small", `--device=${image}`, ...sizes, "--attach=none", "--statusPage=enabled"),
    );
    await expectUsable(full, "nearly-full");
    const small = await open(full);
    await small.page.getByText("vdo growPhysical --name=small").waitFor();
    expect(await small.page.title()).toMatch(/^\(!\) small: /);
  });
}

describeWith(["chromium"], "the status page in Chromium", suite, { describe, test });
