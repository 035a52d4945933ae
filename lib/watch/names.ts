// Names that the program, its Workers and `userfaultfd watch` agree on.

/** A diagnostics channel of Node.js. What a program publishes there names what it has just done. */
export const MARK_CHANNEL = 'userfaultfd:mark';

/** How the preload learns that its process is watched: a WatchConfig as JSON. */
export const WATCH_VARIABLE = 'UFFD_WATCH';
