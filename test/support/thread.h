// Finds a thread of a process by its name.
#pragma once
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static pid_t find_thread(const char *pid, const char *name) {
  char path[300], comm[32];
  pid_t found = 0;
  snprintf(path, sizeof path, "/proc/%s/task", pid);
  DIR *tasks = opendir(path);
  if (!tasks) return 0;
  for (struct dirent *entry; !found && (entry = readdir(tasks));) {
    snprintf(path, sizeof path, "/proc/%s/task/%s/comm", pid, entry->d_name);
    FILE *file = fopen(path, "r");
    if (!file) continue;
    if (fgets(comm, sizeof comm, file) && !strncmp(comm, name, strlen(name)) && comm[strlen(name)] == '\n')
      found = (pid_t)atoi(entry->d_name);
    fclose(file);
  }
  closedir(tasks);
  return found;
}
