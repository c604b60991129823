/**
 * Tests that wait much and do little go on beside each other: `t.jobs = BESIDE` in their file, and
 * `t.test(name, beside, ...)`. Each needs a daemon, containers and files of its own. On an emulated
 * machine (test/kernels), where to start a daemon takes a processor for a minute, one after the other.
 */
export const BESIDE = Number(process.env["TEST_BESIDE"] ?? 3);

export const beside = { buffered: true } as const;
