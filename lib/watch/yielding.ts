// Memory has one owner in the kernel. Who watches what nobody asked it to watch lets go of it when the
// program wants it (test 71).

type LetGo = (buffer: ArrayBufferLike) => void;

const watching: LetGo[] = [];

/** `letGo` is called before the program registers memory with a userfaultfd of its own. */
export function whenRegistered(letGo: LetGo): void {
  watching.push(letGo);
}

/** @internal */
export function letWatchersGo(buffer: ArrayBufferLike): void {
  for (const letGo of watching) letGo(buffer);
}
