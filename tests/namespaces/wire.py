"""A wire between two network namespaces, as long, lossy and slow as it is told to be.

    wire.py DEVICE DEVICE

makes two network devices, says "ready" once they are there, and carries packets from one to the other. Each line of
its input sets the delay in milliseconds, the loss in percent and the rate in bytes a second (0 for no limit), all in
each direction: "200 5 0". It ends with its input. The kernel's own netem would do the same, but many kernels come without it.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
# The longest wait for a slow wire, in seconds. Packets that would wait longer are lost.
QUEUE = 0.4


def device(name):
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return file


def main():
    ends = [device(name) for name in sys.argv[1:]]
    print("ready", flush=True)
    delay, loss, rate = 0.0, 0.0, 0.0
    flying, count = [], 0
    free = {end: 0.0 for end in ends}
    seed = random.Random(1)
    while True:
        wait = max(0.0, flying[0][0] - time.monotonic()) if flying else None
        readable, _, _ = select.select([0, *ends], [], [], wait)
        if 0 in readable:
            line = sys.stdin.readline()
            if not line:
                return
            delay, loss, rate = (float(number) for number in line.split())
            delay /= 1000
        for end, other in (ends, reversed(ends)):
            if end not in readable:
                continue
            try:
                packet = os.read(end, 65536)
            except OSError:  # The device is down.
                continue
            now = time.monotonic()
            if seed.random() * 100 < loss or free[end] > now + QUEUE:
                continue
            free[end] = max(free[end], now) + (len(packet) / rate if rate else 0.0)
            count += 1
            heapq.heappush(flying, (free[end] + delay, count, other, packet))
        while flying and flying[0][0] <= time.monotonic():
            _, _, end, packet = heapq.heappop(flying)
            try:
                os.write(end, packet)
            except OSError:
                pass


main()
