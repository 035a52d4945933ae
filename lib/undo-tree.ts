// Which entry was made of which, and where undo and redo go. Knows no memory.

export interface Step {
  readonly id: number;
  /** What it was made of; where undo goes. */
  parent?: Step | undefined;
  /** What was last made of it, or undone to it; where redo goes. */
  next?: Step | undefined;
}

/**
 * A new step does not end the others: after an undo it begins a branch, and redo follows the branch
 * that one was on last.
 */
export class UndoTree<S extends Step> {
  /** In the order they were added. */
  readonly #steps = new Map<number, S>();
  /** Where the memory is; also when that step was deleted, until the next move. */
  #current: Step | undefined;

  get size(): number {
    return this.#steps.size;
  }

  get(id: number): S | undefined {
    return this.#steps.get(id);
  }

  values(): IterableIterator<S> {
    return this.#steps.values();
  }

  get oldest(): S | undefined {
    return this.#steps.values().next().value;
  }

  get current(): S | undefined {
    return this.#current === undefined ? undefined : this.#steps.get(this.#current.id);
  }

  get before(): S | undefined {
    return this.#current?.parent as S | undefined;
  }

  get after(): S | undefined {
    return this.#current?.next as S | undefined;
  }

  /** The new step is made of the current one. */
  add(step: S): void {
    step.parent = this.current ?? this.before;
    if (step.parent !== undefined) step.parent.next = step;
    this.#steps.set(step.id, step);
    this.#current = step;
  }

  moveTo(step: S): void {
    this.#current = step;
  }

  undoTo(step: S): void {
    step.next = this.current ?? step.next;
    this.#current = step;
  }

  /** What was made of it counts as made of what it was made of. */
  delete(step: S): void {
    this.#steps.delete(step.id);
    const rest: Step[] = [...this.#steps.values()];
    if (this.#current !== undefined && this.current === undefined) rest.push(this.#current);
    for (const other of rest) {
      if (other.parent === step) other.parent = step.parent;
    }
    for (const other of rest) {
      if (other.next === step) other.next = step.next ?? this.#newestOf(other);
    }
  }

  #newestOf(parent: Step): Step | undefined {
    return [...this.#steps.values()].reverse().find((step) => step.parent === parent);
  }
}
