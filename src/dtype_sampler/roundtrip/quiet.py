"""Leaving the process as it was found."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """One thread, no gradients, no warnings, tensors made on the host; all restored afterwards.

    Of small tensors, two threads make a survey thirty times as slow as one. torch warns of each
    dtype that it calls experimental; whether it works is what is found out here.
    """
    threads = torch.get_num_threads()
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        # What is made and kept in inference mode could not be used outside of it.
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.no_grad())
        # Entered only where it is needed, as it slows every call into torch. Asked by making one:
        # before 2.7 get_default_device() does not see what a `with` surrounds it.
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(1)
        yield
