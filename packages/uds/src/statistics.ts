/** What an index reports about itself. Request counters start at 0 when it is opened; failed requests are not counted. */
export interface UdsStatistics {
  /** Entries of the volume index, expired ones that no look-up has removed yet included. */
  entriesIndexed: number;
  /** Of these, entries that carry their full name. */
  collisions: number;
  /** Entries removed since the index was opened. */
  entriesDiscarded: number;
  postsFound: number;
  postsNotFound: number;
  queriesFound: number;
  queriesNotFound: number;
  updatesFound: number;
  updatesNotFound: number;
  deletionsFound: number;
  deletionsNotFound: number;
  /** Posts found by place. */
  inMemoryPostsFound: number;
  densePostsFound: number;
  sparsePostsFound: number;
  /** Successful requests of any kind. */
  requests: number;
  /** Bytes, as {@link indexMemory} states them. */
  memoryUsed: number;
  /** Virtual numbers of the newest (open) and the oldest chapter. */
  newestChapter: number;
  oldestChapter: number;
  /** Records not stored because a list or the memory was full, and chapters given up early for the same reason. */
  overflows: number;
  earlyFlushes: number;
  pageCacheHits: number;
  pageCacheMisses: number;
}

/** Counters by operation (the index) for found and not found requests, and posts found by location. */
export class RequestCounters {
  readonly found = new Float64Array(5);
  readonly notFound = new Float64Array(5);
  readonly postsByLocation = new Float64Array(4);
}
