import { simulateSeeds } from "./simulate-seeds.ts";

simulateSeeds(1101, 2200);
