/** How long what is tried for a time is tried, in seconds: `make hostile` gives it more than `make test`. */
export const seconds = Number(process.env["HOSTILE_SECONDS"] ?? 1);
