// Work that is begun before its result is needed.

/** The same items, each when `count` more were made. */
export function* behind<T>(items: Iterable<T>, count: number): Generator<T, undefined, undefined> {
  const held: T[] = [];
  for (const item of items) {
    held.push(item);
    if (held.length > count) yield held.shift()!;
  }
  yield* held;
  return undefined;
}
