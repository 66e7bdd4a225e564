"""Kernels of notebooks: the Python that asks for one, whatever kernels else are installed.

Imported where Jupyter is needed; the rest of the library does without.
"""

import zmq
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpec, KernelSpecManager


class OwnSpecs(KernelSpecManager):
    """Known kernels, among which `python3` is the Python that runs this.

    Jupyter takes the first of that name along JUPYTER_PATH and the user's folders, which may be
    another Python, without this library or without ipykernel.
    """

    def find_kernel_specs(self) -> dict[str, str]:
        """Names of kernels and their folders."""
        return super().find_kernel_specs() | {NATIVE_KERNEL_NAME: RESOURCES}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """How the kernel of a name is started."""
        if kernel_name.lower() == NATIVE_KERNEL_NAME:
            return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())
        return super().get_kernel_spec(kernel_name)


class OwnKernel(AsyncKernelManager):
    """Starts such a kernel, and encrypts what is said to it where Jupyter can.

    Else everybody on the machine could listen, as the kernel warns in every notebook.
    """

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.kernel_spec_manager = OwnSpecs(parent=self)
        if self.has_trait("transport_encryption") and zmq.has("curve"):
            self.transport_encryption = "auto"
