/* A container's program whose first instructions read a file: makes /read if it could, and then /ran. */
#include <fcntl.h>
#include <unistd.h>

int main(void) {
  if (open("/etc/secret", O_RDONLY) >= 0) close(open("/read", O_WRONLY | O_CREAT, 0600));
  close(open("/ran", O_WRONLY | O_CREAT, 0600));
  return 0;
}
