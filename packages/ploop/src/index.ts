export { MESSAGE_NAMES, type MessageHost, sendMessage, statusLine } from "./device/messages.ts";
export { PloopDevice, type PloopOpenOptions, type StackFile } from "./device/ploop-device.ts";
export { type DiskOptions, PloopDisk } from "./disk/ploop-disk.ts";
export type { Errno } from "./errors.ts";
export { DeviceFile } from "./file/device-file.ts";
export type { ImageDirectory, ImageFile } from "./file/image-file.ts";
export { NodeDirectory } from "./file/node-directory.ts";
export { NodeFile } from "./file/node-file.ts";
export { type CreateImageOptions, createImage, type ImageMode } from "./image/create.ts";
