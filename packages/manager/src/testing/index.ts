export { type FakeProgram, TestMachine } from "./machine.ts";
export { toyEngine } from "./toy-engine.ts";
