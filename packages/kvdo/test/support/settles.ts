/** Bounds the time of what might never end. */
export class NeverSettled extends Error {}

/** The result of `work`; throws {@link NeverSettled} when it has none after `milliseconds` of real time. */
export async function settles<T>(what: string, work: Promise<T>, milliseconds = 4_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new NeverSettled(`${what} did not end in ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/** Outcomes of all of `works`, under the same limit. */
export function allSettle<T>(
  what: string,
  works: Promise<T>[],
  milliseconds?: number,
): Promise<PromiseSettledResult<T>[]> {
  return settles(what, Promise.allSettled(works), milliseconds);
}
