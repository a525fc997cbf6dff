/** The status page of one volume: asks the daemon every two seconds and shows what it says. */
import type { VolumeHistory, VolumeSnapshot } from "../snapshot.ts";
import { fetchHistory, fetchSnapshot, postSwitch, Refused, setToken, takeToken } from "./api.ts";
import { byId, setText, show } from "./dom.ts";
import * as views from "./views.ts";

const SNAPSHOT_MILLISECONDS = 2000;

/** The charts follow at every fifth snapshot. */
const HISTORY_EVERY = 5;

/** What the charts show, to draw them again when the window changes. */
let lastHistory: VolumeHistory | undefined;

const pending = new Map<string, boolean>();
let isPaused = false;
let rounds = 0;
let timer: ReturnType<typeof setTimeout> | undefined;
let announced = "";

/** Tells screen readers what changed without taking the focus. */
function announce(text: string): void {
  setText(byId("announcer"), text);
}

function showSnapshot(snapshot: VolumeSnapshot): void {
  show(byId("refused"), false);
  show(byId("lost"), false);
  show(byId("content"), true);
  views.showHead(snapshot);
  views.showNotices(snapshot.notices);
  views.showRecovery(snapshot);
  views.showSpace(snapshot);
  views.showSwitches(snapshot, pending);
  views.showActivity(snapshot.activity);
  views.showVolume(snapshot);
  views.showStatistics(snapshot);
  const titles = snapshot.notices.map(({ title }) => title).join(". ");
  if (titles !== announced) announce(titles === "" ? "No notices any more" : titles);
  announced = titles;
}

function showFailure(error: unknown): void {
  if (!(error instanceof Refused)) {
    show(byId("lost"), true);
    announce("The daemon does not answer");
    return;
  }
  setText(byId("refused-text"), `The daemon says: ${error.message}.`);
  show(byId("refused"), true);
  show(byId("content"), false);
  show(byId("notices"), false);
}

/** One round now, and the next one when its time has come; none while the page is paused, hidden or refused. */
async function update(): Promise<void> {
  clearTimeout(timer);
  try {
    showSnapshot(await fetchSnapshot());
    if (rounds++ % HISTORY_EVERY === 0) {
      lastHistory = await fetchHistory();
      views.showHistory(lastHistory);
    }
  } catch (error) {
    rounds = 0;
    showFailure(error);
    if (error instanceof Refused && error.status === 401) return;
  }
  clearTimeout(timer);
  if (!isPaused && !document.hidden) timer = setTimeout(update, SNAPSHOT_MILLISECONDS);
}

function setPaused(paused: boolean): void {
  isPaused = paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  if (paused) clearTimeout(timer);
  else void update();
}

async function moveSwitch(name: "compression" | "deduplication"): Promise<void> {
  if (pending.has(name)) return;
  const button = byId(name);
  const wanted = button.getAttribute("aria-checked") !== "true";
  const problem = byId("switch-problem");
  show(problem, false);
  pending.set(name, wanted);
  const word = name === "compression" ? "Compression" : "Deduplication";
  button.setAttribute("aria-checked", String(wanted));
  button.setAttribute("aria-busy", "true");
  try {
    const snapshot = await postSwitch(name, wanted);
    pending.delete(name);
    showSnapshot(snapshot);
    announce(`${word} is ${wanted ? "on" : "off"}`);
  } catch (error) {
    pending.delete(name);
    if (error instanceof Refused && error.status === 401) return showFailure(error);
    const reason = error instanceof Error ? error.message : String(error);
    setText(problem, `${word} could not be switched ${wanted ? "on" : "off"}: ${reason}`);
    show(problem, true);
    await update();
  }
}

function start(): void {
  takeToken();
  byId("pause").addEventListener("click", () => setPaused(!isPaused));
  byId("compression").addEventListener("click", () => void moveSwitch("compression"));
  byId("deduplication").addEventListener("click", () => void moveSwitch("deduplication"));
  byId("statistics").addEventListener("toggle", () => void update());
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(byId<HTMLInputElement>("token").value);
    void update();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !isPaused) void update();
  });
  window.addEventListener("resize", () => {
    if (lastHistory !== undefined) views.showHistory(lastHistory);
  });
  window.addEventListener("hashchange", () => {
    takeToken();
    void update();
  });
  void update();
}

start();
