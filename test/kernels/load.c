// Loads every program of an eBPF object, each on its own: load FILE
// Says which the kernel took, with how many instructions its verifier went through, and for the others what
// libbpf said. Exit status 1 if it refused one, or one is so complex that a newer kernel might.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// The kernel gives up at 1,000,000 (BPF_COMPLEXITY_LIMIT_INSNS). What counts as many here may be more there.
#define MOST_INSTRUCTIONS 100000

// Of hooks that came after 6.1: the daemon does without (native/ebpf/change_hooks.h).
static const char *const optional[] = {"deny_set_acl", "deny_remove_acl"};

static char said[65536];
static int loaded, refused;

static int keep(enum libbpf_print_level level, const char *format, va_list args) {
  size_t used = strlen(said);
  if (level == LIBBPF_WARN) vsnprintf(said + used, sizeof(said) - used, format, args);
  return 0;
}

// The daemon gives maps the size of the machine: in the object they have none.
static void size_maps(struct bpf_object *object) {
  struct bpf_map *map;
  bpf_object__for_each_map(map, object) if (bpf_map__max_entries(map) == 0) bpf_map__set_max_entries(map, 65536);
}

// Whether the kernel has nothing to attach it to, and needs nothing.
static int is_needless(const char *name) {
  for (size_t i = 0; i < sizeof(optional) / sizeof(*optional); i++)
    if (strcmp(name, optional[i]) == 0) return strstr(said, "failed to find kernel BTF type ID") != NULL;
  return 0;
}

static unsigned verified(const struct bpf_program *program) {
  struct bpf_prog_info info = {};
  __u32 size = sizeof(info);
  return bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0 ? info.verified_insns : 0;
}

// The name of the program after `previous`, or null.
static const char *load_next(const char *file, const char *previous) {
  static char name[128];
  struct bpf_object *object = bpf_object__open(file);
  if (!object) {
    printf("not ok %s: %s\n", file, strerror(errno));
    return NULL;
  }
  struct bpf_program *program, *chosen = NULL;
  int passed = previous == NULL;
  bpf_object__for_each_program(program, object) {
    int now = passed && !chosen;
    bpf_program__set_autoload(program, now);
    if (now) chosen = program;
    if (previous && strcmp(bpf_program__name(program), previous) == 0) passed = 1;
  }
  if (chosen) {
    size_maps(object);
    said[0] = 0;
    snprintf(name, sizeof(name), "%s", bpf_program__name(chosen));
    int error = bpf_object__load(object);
    unsigned instructions = error ? 0 : verified(chosen);
    int needless = error && is_needless(name);
    int good = needless || (!error && instructions <= MOST_INSTRUCTIONS);
    if (good) loaded++;
    else refused++;
    printf("%s %s %s (%u instructions)\n", good ? "ok" : "not ok", bpf_program__section_name(chosen), name, instructions);
    if (needless) printf("# this kernel has no such hook\n");
    else if (error) printf("%s\n", said);
  }
  bpf_object__close(object);
  return chosen ? name : NULL;
}

int main(int count, char **arguments) {
  libbpf_set_print(keep);
  for (int i = 1; i < count; i++) {
    const char *name = NULL;
    while ((name = load_next(arguments[i], name))) continue;
  }
  return refused || !loaded;
}
