/**
 * Tests that wait much and do little go on beside each other: `t.jobs = BESIDE` in their file, and
 * `t.test(name, beside, ...)`. Each needs a daemon, containers and files of its own.
 */
export const BESIDE = 3;

export const beside = { buffered: true } as const;
