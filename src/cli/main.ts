/** The program janusctl: the command line in, the exit status out. */
import { janusctl } from "./janusctl.js";

const { stdin, stdout, stderr } = process;
// Nobody reads on: `janusctl list --watch | head`. As if SIGPIPE had ended it, which Node ignores.
stdout.on("error", () => process.exit(141));
process.exitCode = await janusctl(process.argv.slice(2), {
  stdin,
  stdout: (text) => stdout.write(text),
  stderr: (text) => stderr.write(text),
});
