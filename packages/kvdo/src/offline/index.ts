export { type EstimatorOptions, type SavingsEstimate, SavingsEstimator } from "./savings-estimator.ts";
