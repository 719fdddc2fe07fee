# SPDX-License-Identifier: Apache-2.0
"""What guest/image/build is made of: one file per kind of image, and the four tools that they share."""
