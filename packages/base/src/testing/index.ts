export { type LawRunner, layoutLaws, layoutTable } from "./layout-laws.ts";
