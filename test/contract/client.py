"""Drives janusd the way the existing controller does, by a gRPC implementation
that is not grpc-js, with messages that know only the original's fields.
Prints TAP.

    client.py ADDRESS CONTAINER_ID [CA CERTIFICATE KEY]

PYTHONPATH holds original_pb2 and standard_pb2, made by protoc.
"""

import re
import sys

import grpc
import original_pb2 as janus
import standard_pb2 as standard

TIMEOUT = 5  # seconds: as long as the controller waits

tests = 0


def check(name, ok, found=None):
    global tests
    tests += 1
    print(f"{'ok' if ok else 'not ok'} {tests} - {name}")
    if not ok:
        print(f"  ---\n  found: {str(found)!r}\n  ...")


def equal(name, found, wanted):
    check(name, found == wanted, found)


def open_channel(address, tls):
    if not tls:
        return grpc.insecure_channel(address)
    ca, certificate, key = (open(file, "rb").read() for file in tls)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate))


class Client:
    def __init__(self, channel):
        def unary(path, request, response):
            return channel.unary_unary(path, request.SerializeToString, response.FromString)

        self.create_guard = unary("/janus.Janusd/CreateGuard", janus.JanusdConfig, janus.JanusdHandle)
        self.destroy_guard = unary("/janus.Janusd/DestroyGuard", janus.JanusdConfig, janus.Empty)
        self.get_guard_state = channel.unary_stream(
            "/janus.Janusd/GetGuardState", janus.Empty.SerializeToString, janus.JanusdHandle.FromString
        )
        self.check = unary("/grpc.health.v1.Health/Check", standard.HealthCheckRequest, standard.HealthCheckResponse)
        self.watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            standard.HealthCheckRequest.SerializeToString,
            standard.HealthCheckResponse.FromString,
        )
        self.reflect = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            standard.ServerReflectionRequest.SerializeToString,
            standard.ServerReflectionResponse.FromString,
        )


def failure(call):
    """The grpc.RpcError that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    return None


def violations(error):
    """google.rpc.BadRequest of an error, as field -> description."""
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            found = {}
            for detail in standard.Status.FromString(value).details:
                if detail.type_url == "type.googleapis.com/google.rpc.BadRequest":
                    for violation in standard.BadRequest.FromString(detail.value).field_violations:
                        found[violation.field] = violation.description
            return found
    return {}


def guard(container, **changes):
    fields = dict(
        name="guard",
        nodeName="testnode",
        podName="pod",
        cid=[f"containerd://{container}"],
        subject=[
            janus.JanusGuardSubject(deny=["/etc/secret"], event=["open"], tags={"foo": "bar"}),
        ],
    )
    fields.update(changes)
    return janus.JanusdConfig(**fields)


def main(address, container, *tls):
    client = Client(open_channel(address, tls))

    handle = client.create_guard(guard(container), timeout=TIMEOUT)
    equal("CreateGuard names the node", handle.nodeName, "testnode")
    equal("CreateGuard names the pod", handle.podName, "pod")
    check("CreateGuard tells the pod's processes", len(handle.pid) == 1 and handle.pid[0] > 1, handle)
    equal("CreateGuard gives an id for each subject", len(handle.processEventfd), 1)
    again = client.create_guard(guard(container), timeout=TIMEOUT)
    equal("CreateGuard again, with the same config, changes nothing", again, handle)

    state = list(client.get_guard_state(janus.Empty(), timeout=TIMEOUT))
    equal("GetGuardState ends, with one handle for the guard", [one.podName for one in state], ["pod"])

    # As the controller does: no name, no cid, and pids that may be another pod's.
    client.destroy_guard(janus.JanusdConfig(nodeName="testnode", podName="other", pid=handle.pid), timeout=TIMEOUT)
    equal("DestroyGuard of another pod with this pod's pids", len(list(client.get_guard_state(janus.Empty()))), 1)
    client.destroy_guard(janus.JanusdConfig(nodeName="testnode", podName="pod", pid=[1]), timeout=TIMEOUT)
    equal("DestroyGuard of the pod", list(client.get_guard_state(janus.Empty())), [])
    answer = client.destroy_guard(janus.JanusdConfig(nodeName="testnode", podName="pod"), timeout=TIMEOUT)
    equal("DestroyGuard of what isn't there", answer, janus.Empty())

    error = failure(lambda: client.create_guard(guard(container, subject=[]), timeout=TIMEOUT))
    equal("no subject: INVALID_ARGUMENT", error.code(), grpc.StatusCode.INVALID_ARGUMENT)
    equal("no subject: BadRequest names the field", list(violations(error)), ["subject"])
    bad = janus.JanusGuardSubject(deny=["relative"], event=["OPEN"])
    error = failure(lambda: client.create_guard(guard(container, subject=[bad], logFormat="{nope}"), timeout=TIMEOUT))
    equal("three faults: INVALID_ARGUMENT", error.code(), grpc.StatusCode.INVALID_ARGUMENT)
    equal(
        "three faults: all of them named",
        sorted(violations(error)),
        ["logFormat", "subject[0].deny[0]", "subject[0].event[0]"],
    )
    error = failure(lambda: client.create_guard(guard("f" * 64), timeout=TIMEOUT))
    equal("unknown container: NOT_FOUND", error.code(), grpc.StatusCode.NOT_FOUND)
    equal("nothing was changed", list(client.get_guard_state(janus.Empty())), [])

    # Statuses that are longer than all that a client takes by way of trailers.
    long = {
        "a message of 3,000 two-byte characters": guard(container, logFormat="{" + "é" * 3000 + "}"),
        "5,000 violations": guard(
            container, subject=[janus.JanusGuardSubject(deny=["relative"] * 5000, event=["open"])]
        ),
        "fields of two-byte characters": guard(
            container,
            subject=[janus.JanusGuardSubject(deny=["/x"], event=["é" * 2000] * 50, tags={"é" * 2000: "é" * 2000})],
        ),
    }
    for what, config in long.items():
        error = failure(lambda: client.create_guard(config, timeout=TIMEOUT))
        equal(f"{what}: the code", error.code(), grpc.StatusCode.INVALID_ARGUMENT)
        check(f"{what}: the message, cut", re.search(r"\.\.\.(; and \d+ more)?$", error.details()), error.details())
        check(f"{what}: BadRequest, cut", 0 < len(violations(error)) < 5000, violations(error))
    equal("nothing was changed by these", list(client.get_guard_state(janus.Empty())), [])

    for service in ["", "janus.Janusd"]:
        request = standard.HealthCheckRequest(service=service)
        equal(f"health Check {service!r}", client.check(request, timeout=TIMEOUT).status, 1)
        watch = client.watch(request, timeout=TIMEOUT)
        equal(f"health Watch {service!r}", next(watch).status, 1)
        watch.cancel()
    unknown = standard.HealthCheckRequest(service="unknown")
    error = failure(lambda: client.check(unknown, timeout=TIMEOUT))
    equal("health Check of an unknown name", error.code(), grpc.StatusCode.NOT_FOUND)

    request = standard.ServerReflectionRequest(list_services="")
    answer = next(client.reflect(iter([request]), timeout=TIMEOUT))
    names = {service.name for service in answer.list_services_response.service}
    check("reflection lists the services", {"janus.Janusd", "grpc.health.v1.Health"} <= names, names)
    request = standard.ServerReflectionRequest(file_containing_symbol="janus.Janusd")
    answer = next(client.reflect(iter([request]), timeout=TIMEOUT))
    files = answer.file_descriptor_response.file_descriptor_proto
    check("reflection describes janus.Janusd", any(b"CreateGuard" in file for file in files), len(files))

    print(f"1..{tests}")


if __name__ == "__main__":
    main(*sys.argv[1:])
