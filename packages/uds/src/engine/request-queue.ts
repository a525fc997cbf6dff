/** A first-in first-out queue of requests, linked through the requests themselves: it allocates nothing and has no limit
 * but the caller's pool. A request is in one queue at a time. */
import type { UdsRequest } from "../request.ts";

export class RequestQueue {
  length = 0;
  #first: UdsRequest | undefined;
  #last: UdsRequest | undefined;

  push(request: UdsRequest): void {
    request.next = undefined;
    if (this.#last === undefined) this.#first = request;
    else this.#last.next = request;
    this.#last = request;
    this.length++;
  }

  shift(): UdsRequest | undefined {
    const request = this.#first;
    if (request === undefined) return undefined;
    this.#first = request.next;
    if (this.#first === undefined) this.#last = undefined;
    request.next = undefined;
    this.length--;
    return request;
  }
}
