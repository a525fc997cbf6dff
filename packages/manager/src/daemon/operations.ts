/** What the control socket answers: one entry per operation. */
import { statsMessage } from "@vdo/kvdo";
import type { KnownVolume } from "../commands/inspect.ts";
import { settingsToPlain } from "../config/volume-settings.ts";
import type { ControlHandler } from "../control/server.ts";
import { commandError } from "../errors.ts";
import { ATTACH_CHOICES, type AttachChoice, uuidText, WRITE_POLICIES, type WritePolicy } from "../values.ts";
import type { Daemon } from "./daemon.ts";
import { growLogical, growPhysical } from "./grow.ts";
import { configText, statusLine, tableLine } from "./kernel-text.ts";

/** Handlers of the operations, by name. */
export function daemonOperations(daemon: Daemon): ReadonlyMap<string, ControlHandler> {
  const ready = (handler: ControlHandler): ControlHandler => {
    return (request) => {
      if (daemon.stage === "starting") {
        throw commandError(
          "VDO_WRONG_STATE",
          `VDO ${daemon.name} is starting; try again when it is ready`,
          daemon.name,
        );
      }
      return handler(request);
    };
  };
  return new Map<string, ControlHandler>([
    ["ping", () => daemon.stage],
    [
      "ready",
      () => ({
        stage: daemon.stage,
        state: daemon.stage === "starting" ? null : daemon.state,
        recovery: daemon.recovery,
        statusPage: daemon.statusPage,
      }),
    ],
    ["stats", ready((request) => statistics(daemon, request["form"]))],
    ["activity", ready(() => daemon.activity)],
    ["config", ready(() => configText(daemon.volume.config()))],
    ["status", ready(() => status(daemon))],
    ["settings", () => settingsToPlain(daemon.settings)],
    ["properties", ready(() => properties(daemon))],
    ["storageSize", ready(async () => ({ blocks: await daemon.storage.device.refresh() }))],
    ["table", ready(() => tableLine(daemon.settings, daemon.volume.config()))],
    ["message", ready((request) => message(daemon, request["args"]))],
    ["suspend", ready((request) => daemon.volume.suspend({ save: request["save"] !== false }))],
    ["resume", ready(() => daemon.volume.resume())],
    ["attach", ready((request) => daemon.attach(attachChoice(request["kind"])))],
    ["growLogical", ready((request) => growLogical(daemon, request["blocks"], daemon.environment))],
    ["growPhysical", ready((request) => growPhysical(daemon, request["blocks"], daemon.storage))],
    ["writePolicy", ready((request) => daemon.setWritePolicy(writePolicy(request["policy"])))],
    ["detach", ready(() => daemon.detach())],
    ["stop", ready((request) => daemon.stop({ force: request["force"] === true }))],
  ]);
}

function properties(daemon: Daemon): KnownVolume {
  const { uuid, ...figures } = daemon.volume.config();
  return { ...figures, uuidText: uuidText(uuid) };
}

function statistics(daemon: Daemon, form: unknown): unknown {
  if (form === "text") return statsMessage(daemon.statistics());
  const { warning } = daemon;
  return { ...daemon.statistics(), ...(warning === undefined ? {} : { warning }) };
}

function status(daemon: Daemon): string {
  return statusLine(daemon.state.device, daemon.volume.config().logicalBlocks, daemon.volume.status());
}

function attachChoice(kind: unknown): AttachChoice {
  const choice = ATTACH_CHOICES.find((known) => known === (kind ?? "auto"));
  if (choice === undefined) throw commandError("VDO_USER", `unknown kind of attachment ${JSON.stringify(kind)}`);
  return choice;
}

function writePolicy(text: unknown): WritePolicy {
  const policy = WRITE_POLICIES.find((known) => known === text);
  if (policy === undefined) throw commandError("VDO_USER", `unknown write policy ${JSON.stringify(text)}`);
  return policy;
}

/** The kernel's messages; words are case-insensitive. */
async function message(daemon: Daemon, args: unknown): Promise<unknown> {
  const words = Array.isArray(args) ? args.map((word) => String(word).toLowerCase()) : [];
  const { volume } = daemon;
  switch (words.join(" ")) {
    case "compression on":
      return volume.setCompression(true);
    case "compression off":
      return volume.setCompression(false);
    case "index-create":
      return volume.indexMessage("create");
    case "index-close":
      return volume.indexMessage("close");
    case "index-enable":
      return volume.indexMessage("enable");
    case "index-disable":
      return volume.indexMessage("disable");
    case "stats":
      return statsMessage(daemon.statistics());
    case "config":
      return configText(volume.config());
    default:
      throw commandError("VDO_USER", `unknown message ${JSON.stringify(words.join(" "))}`, daemon.name);
  }
}
