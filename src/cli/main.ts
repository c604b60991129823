/** The program janusctl: the command line in, the exit status out. */
import { janusctl } from "./janusctl.js";

const { stdin, stdout, stderr } = process;
process.exitCode = await janusctl(process.argv.slice(2), {
  stdin,
  stdout: (text) => stdout.write(text),
  stderr: (text) => stderr.write(text),
});
