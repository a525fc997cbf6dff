/** Bytes all connections of a server may hold together. A connection that gets none waits its turn, oldest first. */

export interface BudgetWaiter {
  /** Called when bytes came back; the waiter tries again (and may have to wait again). */
  budgetFreed(): void;
}

export class ByteBudget {
  readonly limit: number;
  #used = 0;
  #waiting: BudgetWaiter[] = [];

  constructor(limit: number) {
    this.limit = limit;
  }

  get used(): number {
    return this.#used;
  }

  /** Somebody waits for bytes. */
  get contended(): boolean {
    return this.#waiting.length > 0;
  }

  /** Takes `bytes` if they are there; else remembers `waiter` and returns false. A sole user is never refused. */
  take(bytes: number, waiter: BudgetWaiter): boolean {
    if (this.#used + bytes > this.limit && this.#used > 0) {
      if (!this.#waiting.includes(waiter)) this.#waiting.push(waiter);
      return false;
    }
    this.#used += bytes;
    return true;
  }

  /** Takes `bytes` that answer an admitted request; bounded by the requests admitted, never refused. */
  force(bytes: number): void {
    this.#used += bytes;
  }

  give(bytes: number): void {
    this.#used -= bytes;
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const waiter of waiting) waiter.budgetFreed();
  }

  /** `waiter` is gone. */
  forget(waiter: BudgetWaiter): void {
    this.#waiting = this.#waiting.filter((other) => other !== waiter);
  }
}

/** What one connection holds of the budget, with a limit of its own. */
export class ByteAccount {
  readonly #budget: ByteBudget;
  readonly #limit: number;
  readonly #waiter: BudgetWaiter;
  #held = 0;

  constructor(budget: ByteBudget, limit: number, waiter: BudgetWaiter) {
    this.#budget = budget;
    this.#limit = limit;
    this.#waiter = waiter;
  }

  get held(): number {
    return this.#held;
  }

  /** Takes `bytes`, or returns false: then `waiter.budgetFreed()` is called when it is worth trying again. */
  take(bytes: number): boolean {
    if (this.#held > 0 && this.#held + bytes > this.#limit) return false;
    if (!this.#budget.take(bytes, this.#waiter)) return false;
    this.#held += bytes;
    return true;
  }

  force(bytes: number): void {
    this.#held += bytes;
    this.#budget.force(bytes);
  }

  give(bytes: number): void {
    this.#held -= bytes;
    this.#budget.give(bytes);
    this.#waiter.budgetFreed();
  }
}
