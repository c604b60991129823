/** docs/bypass.md: the suite for people, with the table of attempts that the suite itself runs. */
import { type Attempt, places, users } from "./suite.js";

const introduction = `# Ways around a guard

A guard that can be walked around is worse than none. This is every way around it that we know of,
each a small program in \`test/bypass/\` that runs inside a real container and tries to get at a
guarded file. Each is tried twice: against nothing, where it has to succeed (so that the test can
fail), and against the daemon, where every open of the secret has to end in \`EPERM\` while a
neighbour that nobody guards stays readable. A program that waits for its guard tells the suite
which one it wants, and goes on the moment \`CreateGuard\` returned.

    make bypass                                   # everything, as a table; races 300 times each
    make soak                                     # races 10,000 times and more each, over all users and places
    test/bypass/run --only links,race-link        # families, names, or parts of names
    test/bypass/run --against nothing             # does it work at all?
    test/bypass/run --as userns-admin --place disk --iterations 2000 --tap

The exit status is 1 if a single try slipped. \`make test\` includes the suite.

**Who tries.** \`container-root\` is root with the capabilities that docker gives. \`unprivileged\` is
uid 1000. \`userns-admin\` is uid 1000 with every capability in a user namespace that it made itself,
which anybody can. Where the kernel stops somebody on the way to the secret (\`mount\`, \`chroot\`,
...), the table says n/a, and the suite fails if the kernel does not.

**Where.** \`layer\`: the container's writable layer. \`image\`: the overlay's lower layer, so that
changes copy up. \`disk\`: a volume on the node's own file system. \`tmpfs\`: a volume in memory, as
secrets are. Both volumes are mounted twice in the container.

**What is expected.** \`denied\`; \`window\` where a new mount is noticed only after the fact; and
\`read\` for what no permission event can answer:
`;

const limits = `
## What a guard cannot answer

- *An open that is past.* A descriptor that was open before the guard reads and maps as before
  (\`opened-before\`). Opening it again, through \`/proc/self/fd\` or by any other way, is a new open
  and is denied.
- *Reads of such descriptors, on newer kernels.* A guard on \`access\` is asked at each read of a
  descriptor, by \`read\`, \`preadv2\`, \`sendfile\`, \`splice\`, \`copy_file_range\` and io_uring alike. Up
  to Linux 6.13 that includes descriptors that are older than the guard. Since 6.14 the kernel
  decides once, at open, whether reads of a descriptor can ever ask: if nobody was interested then,
  it never asks again (\`access-before\`).
- *A btrfs snapshot.* It makes new files with the same contents, and opens none. Whoever may open a
  subvolume's root, and owns it, can make one (root in a container, too), and read in it what a
  guard on a directory of the subvolume denies. Guard the subvolume's root: then neither the
  snapshot can be made through the container, nor one be read that appears there. Paths, links and
  subvolumes below a guarded directory hold as on other file systems (\`test/kernel/btrfs.test.ts\`).
  Inode numbers repeat there; an identity isn't a number. In a subvolume other than the file
  system's root the kernel reports nothing to our groups of what appears (\`EXDEV\`; seen on Linux
  6.18): exposure \`unresolved_path\`, once. What is made there by an open is asked about and pinned;
  what is renamed or linked into a guarded directory is pinned when it is first asked about, and
  until then could be linked out.
- *An overlay of the container's own, before Linux 6.5* (\`overlay\`, \`overlay-parent\`,
  \`overlay-before\`). Those kernels ask nobody about the file that an overlay opens in its layer.
  Where \`fmod_ret\` programs load, one of ours denies it, if the overlay was mounted in a user
  namespace of the container's (\`make kernels\`, step \`bypass-mounts\`, on 6.1; [Remaining
  windows](architecture/windows.md#remaining-windows)).
- *Devices, FIFOs and sockets.* fanotify drops events of all that is neither a regular file nor a
  directory (\`fanotify_group_event_mask()\` in fs/notify/fanotify/fanotify.c; so since Linux 2.6.37).
  A guard on one is refused; those inside a guarded tree stay as they are (\`input.test.ts\`).
- *\`mmap\` under a guard on \`access\` alone.* The kernel asks nobody when a file is mapped
  (\`access-mapped\`). Guard \`open\` as well (\`all\` does): what cannot be opened cannot be mapped.

## Windows

Where \`window\` is expected, what appears at a guarded path can be read for a moment, and is denied
from then on. The attempt opens it over and over; it fails unless that ends in \`EPERM\` within two
seconds and stays so. The run prints how long each was readable. Everything else in such an attempt
(what the mount hides, what is done after) is denied at once.

- *A new mount over or below a guarded path* (\`tmpfs-over\`, \`tmpfs-over-file-guard\`, \`tmpfs-below\`,
  \`tmpfs-over-parent\`, \`public-over\`, \`file-over\`, \`race-mount-over\`, \`node-mounts-over\`,
  \`node-mounts-over-file-guard\`, \`node-mounts-below\`, \`node-propagates-below\`, \`node-binds-over\`).
  Where the kernel takes \`fmod_ret\` programs there is no such window: opens wait for the daemon to
  have looked at the mount ([Holding](architecture/holding.md#holding),
  \`test/kernels/hold-open.ts\`). Elsewhere, who owns a mount namespace can put another file system
  there, and neither fanotify nor the programs that are left can hold a mount before it is there
  without a tax on every system call of the node. A mount in a namespace that the daemon knows makes
  its mountinfo readable (\`POLLPRI\`): 1 to 25 milliseconds. A namespace of the attacker's own is
  known from a fork, an exec or an open that is asked about in it; at the latest from a look ten
  times a second (less often where a look takes more than a millisecond). What was guarded stays
  denied all the while, by whatever mount; only what the new mount brings is readable, which whoever
  mounts it has already, unless the node mounted it. Counted as
  \`janusd_exposure_total{cause="mount_changed"}\` (\`windows.test.ts\`).
- *What is new at a guarded path of a volume, through a mount that nobody knows of*
  (\`rotated-data-clone\`, \`node-replaces-clone\`, \`node-creates-clone\`, \`node-grows-clone\`,
  \`node-moves-tree-in-clone\`, \`node-grows-moved\`), *or linked out of it at once*
  (\`node-grows-linked\`). A clone that \`open_tree\` made and that is mounted nowhere carries no mark
  (but where opens wait, as above) and is listed nowhere, so only pinned inodes are denied there. A
  pinned directory covers its own entries. What is below a new directory, or below the new target of
  a re-pointed link, is pinned by the scanner thread: mostly before the attempt gets there, else
  some milliseconds after; on a busy machine, tens of them. Below the container's own mounts it is
  denied at once. Counted as \`janusd_exposure_total{cause="scan_pending"}\`.
- *\`--ignore-after N\`: a busy directory that is moved into a guarded place.* Directories that can be
  renamed are learned to be outside once their entries were asked about N times. If one is then
  renamed into a guarded place, that is noticed a moment later, and its files are not asked about
  until then. Counted as \`janusd_exposure_total{cause="directory_moved"}\`. With \`--ignore-after 0\`
  no such directory is ever ignored, and there (the default) is no such window. The suite expects
  none (\`warm-...\`, \`node-moves-in\`).
- *A guarded path that becomes a symbolic link into an ignored directory of the image*
  (\`later-symlink\`). The target is a file of the image that nobody guards: it was open to all under
  its own name until then, so nothing is shown that was hidden. Its open asks nobody until the
  daemon has read that the name changed. Counted as \`janusd_exposure_total{cause="path_changed"}\`.
`;

function yes(on: boolean): string {
  return on ? "yes" : "–";
}

export function bypassMarkdown(attempts: readonly Attempt[]): string {
  const families = [...new Set(attempts.map((attempt) => attempt.family))];
  const tables = families.map((family) => {
    const rows = attempts
      .filter((attempt) => attempt.family === family)
      .map(({ name, summary, expected, who, places: tried }) =>
        [
          `\`${name}\``,
          summary,
          ...users.map((user) => (who.includes(user) ? expected : "n/a")),
          ...places.map((place) => yes(tried.includes(place))),
        ].join(" | "),
      );
    const head = ["attempt", "what it does", ...users, ...places];
    return `\n## ${family}\n\n| ${head.join(" | ")} |\n|${head.map(() => "---").join("|")}|\n| ${rows.join(" |\n| ")} |\n`;
  });
  return `${introduction}${limits}${tables.join("")}`;
}
